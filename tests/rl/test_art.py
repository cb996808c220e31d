from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from rl.art import experimental_config, refusals
from rl.config import TrainConfig
from rl.objectives import Objective, OnPolicy

CONFIG: TypeAdapter[Objective] = TypeAdapter(TrainConfig)
PLAIN: dict[str, Any] = {"lora": {}, "mini_batches": 1, "optimizer": {"learning_rate": 2e-5}}


def config(objective: str, **values: Any) -> Objective:
    plain = {name: value for name, value in PLAIN.items() if objective != "sft" or name != "mini_batches"}
    return CONFIG.validate_python(plain | {"objective": objective} | values)


@pytest.mark.parametrize(
    ("objective", "values", "sent"),
    [
        ("grpo", {}, {"ppo": True, "epsilon": 0.2, "epsilon_high": 0.28, "scale_rewards": True}),
        ("grpo", {"clip_low": 0.1, "clip_high": 0.3}, {"epsilon": 0.1, "epsilon_high": 0.3}),
        ("cispo", {}, {"ppo": False, "epsilon": 1.0, "epsilon_high": 4.0, "importance_sampling_level": "token"}),
        ("gspo", {}, {"ppo": True, "epsilon": 3e-4, "epsilon_high": 4e-4, "importance_sampling_level": "sequence"}),
        ("reinforce_baseline", {"normalise_std": False}, {"ppo": True, "scale_rewards": False}),
        ("grpo", {"filter": {}, "lone": "pooled", "max_staleness": 2}, {"learning_rate": 2e-5}),
    ],
)
def test_what_is_honoured_is_sent(objective: str, values: dict[str, Any], sent: dict[str, Any]) -> None:
    typed = config(objective, **values)
    assert refusals(typed) == []
    assert isinstance(typed, OnPolicy)
    asked = experimental_config(typed)
    assert asked | sent == asked
    assert asked["learning_rate"] == 2e-5


@pytest.mark.parametrize(
    ("objective", "values", "words"),
    [
        ("sft", {"steps": 1}, "objective = sft: its rows would have to be uploaded"),
        ("dr_grpo", {"max_tokens": 8}, "objective = dr_grpo: ART is given grpo, gspo, cispo, reinforce_baseline"),
        ("grpo", {"lora": None}, "lora = None: the service trains an adapter of its own rank; set lora = {}"),
        ("grpo", {"lora": {"rank": 4}}, "the service trains an adapter of its own rank"),
        ("grpo", {"mini_batches": 2}, "mini_batches = 2: ART does not read it; set 1"),
        ("grpo", {"epochs": 2}, "epochs = 2: ART does not read it; set 1"),
        ("grpo", {"temperature": 0.7}, "temperature = 0.7: ART does not read it; set 1.0"),
        ("grpo", {"seed": 3}, "seed = 3: ART does not read it; set 0"),
        ("grpo", {"dual_clip": 3.0}, "dual_clip = 3.0: ART does not read it; leave it out"),
        ("grpo", {"kl": {"coefficient": 0.1}}, "kl = Kl("),
        ("grpo", {"overlong": {"rule": "stop_properly"}}, "overlong = StopProperly("),
        ("grpo", {"checkpoint_every": 5}, "checkpoint_every = 5: ART does not read it; leave it out"),
        ("grpo", {"token_budget": 64}, "token_budget = 64: ART does not read it; set 3072"),
        (
            "grpo",
            {"optimizer": {"learning_rate": 1e-5, "weight_decay": 0.1}},
            "optimizer.weight_decay = 0.1: ART reads the learning rate alone",
        ),
        ("reinforce_baseline", {}, "normalise_std = True: ART divides by the deviation of each group"),
    ],
)
def test_what_would_be_ignored_is_refused_by_name(objective: str, values: dict[str, Any], words: str) -> None:
    (said,) = refusals(config(objective, **values))
    assert said.startswith(words) or words in said
