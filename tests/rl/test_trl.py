from __future__ import annotations

from typing import Any

import pytest

from rl.objective_parts import Kl, Mismatch, Ptx
from rl.objectives import OBJECTIVES, Cispo, Gspo, Objective
from rl.training import Optimizer
from rl.trl import LOSSES, OF_THE_DATA, OF_THE_TRAINER, SILENT, Loss, epsilon_high, loss_of, refusals
from rl.trl import OBJECTIVES as HONOURED

RATE = Optimizer(learning_rate=1e-3)
NEEDED: dict[str, Any] = {"steps": 3, "max_tokens": 7}
CLASSES = {cls.model_fields["objective"].default: cls for cls in OBJECTIVES}


def made(objective: str, **settings: Any) -> Objective:
    cls = CLASSES[objective]
    needed = {name: value for name, value in NEEDED.items() if name in cls.model_fields}
    return cls(optimizer=RATE, **(needed | settings))


@pytest.mark.parametrize("objective", sorted(CLASSES))
def test_an_objective_is_honoured_with_its_defaults_or_refused_by_name(objective: str) -> None:
    refused = refusals(made(objective))
    if objective in HONOURED:
        assert refused == []
    else:
        assert refused[0].startswith(f"objective = {objective}: TRL is given sft, grpo, gspo, dapo")


@pytest.mark.parametrize("objective", HONOURED)
def test_every_setting_is_in_one_list(objective: str) -> None:
    names = set(CLASSES[objective].model_fields)
    assert names - OF_THE_DATA - OF_THE_TRAINER - set(SILENT) == set()
    assert OF_THE_DATA & OF_THE_TRAINER == (OF_THE_DATA | OF_THE_TRAINER) & set(SILENT) == set()


@pytest.mark.parametrize(
    ("objective", "settings", "sentence"),
    [
        ("sft", {"observation_weight": 0.5}, "observation_weight = 0.5: TRL does not read it; leave it out, or train"),
        ("sft", {"devices": 2}, "devices = 2: "),
        ("grpo", {"quantization": "4bit"}, "quantization = '4bit': "),
        ("grpo", {"kl": Kl()}, "kl = Kl("),
        ("dapo", {"ptx": Ptx(coefficient=0.1, source="jsonl:///x")}, "ptx = Ptx("),
        ("grpo", {"mismatch": Mismatch()}, "mismatch = Mismatch("),
        ("cispo", {"clip_low": 0.5}, "clip_low = 0.5: TRL's CISPO has no lower bound; set 1.0"),
        ("grpo", {"dual_clip": 1.2}, "dual_clip = 1.2: below 1 + clip_high"),
    ],
)
def test_a_setting_that_would_be_ignored_is_named(objective: str, settings: dict[str, Any], sentence: str) -> None:
    (refused,) = refusals(made(objective, **settings))
    assert refused.startswith(sentence)


def test_every_setting_that_is_refused_is_named() -> None:
    refused = refusals(made("sft", observation_weight=0.5, devices=2))
    assert [sentence.partition(" ")[0] for sentence in refused] == ["devices", "observation_weight"]


def test_a_setting_that_nobody_listed_is_refused() -> None:
    class Sharper(CLASSES["sft"]):  # type: ignore[name-defined,misc]
        sharpness: float = 1.0

    (refused,) = refusals(Sharper(optimizer=RATE, steps=1))
    assert refused.startswith("sharpness = 1.0: TRL does not read it")


def test_losses_have_the_names_of_trl() -> None:
    assert LOSSES["reinforce_baseline"] == Loss("dapo", "token")
    assert loss_of(Gspo(optimizer=RATE)) == Loss("grpo", "sequence")
    assert epsilon_high(Gspo(optimizer=RATE)) == 4e-4
    assert epsilon_high(Cispo(optimizer=RATE, clip_high=3.0)) == 4.0
