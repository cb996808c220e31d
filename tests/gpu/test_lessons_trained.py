"""What pages say that a dataset taught is what the trainer makes of the same rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import TypeAdapter

from gpu.data import select
from rl.config import TrainConfig
from rl.lessons import Learner, in_order, lessons, needs_all
from rl.objectives import Cloning, Dpo
from rl.protocol import DatasetRow
from rl.records import Call
from rl.sequences import merge

CONFIG: TypeAdapter[TrainConfig] = TypeAdapter(TrainConfig)
TOKENS: Any = SimpleNamespace(tokenizer=range(300))
ROWS = [
    ("a1", "w a", 1.0, 2, "stop"),
    ("a2", "w a", 0.0, 5, "length"),
    ("a3", "w a", 0.75, 3, "stop"),
    ("b1", "w b", 1.0, 4, "stop"),
    ("b2", "w b", 1.0, 4, "stop"),
    ("c1", "w c", 0.25, 7, "stop"),
    ("d1", "w d", 0.5, 1, "stop"),
]
REWARD_KL = {"kl": {"place": "reward", "coefficient": 0.1}}


def row(name: str, group: str, score: float, spoken: int, finish: str) -> DatasetRow:
    call = Call(
        call_id=name,
        turn=0,
        model="ours",
        messages=[],
        response={"role": "assistant", "content": "x"},  # type: ignore[arg-type]
        prompt_token_ids=[1, 2, 3],
        token_ids=[4] * spoken,
        logprobs=[-1.0] * spoken,
        finish_reason=finish,
    )
    return DatasetRow(trajectory_id=name, group=group, score=score, calls=[call.model_dump()])


def learner(one: DatasetRow) -> Learner:
    calls = [Call.model_validate(call) for call in one.calls]
    (sequence,) = merge(calls, 0)
    length = len(sequence.mask) - sequence.mask.index(1)
    spoken, is_cut = sum(sequence.mask), calls[0].finish_reason == "length"
    return Learner(one.trajectory_id, one.group, one.score, spoken, length, is_cut)


@pytest.mark.parametrize(
    "fields",
    [
        {"objective": "grpo"},
        {"objective": "grpo", "lone": "pooled"},
        {"objective": "grpo", "overlong": {"rule": "stop_properly", "coefficient": -0.5}},
        {"objective": "grpo", "overlong": {"rule": "soft", "max_tokens": 6, "buffer": 4}},
        {"objective": "dapo"},
        {"objective": "dr_grpo", "max_tokens": 8},
        {"objective": "rloo"},
        {"objective": "reinforce_baseline"},
        {"objective": "reinforce_baseline", "normalise_std": False},
        {"objective": "reinforce_baseline", **REWARD_KL},
        {"objective": "ppo"},
        {"objective": "sft", "steps": 1, "min_score": 0.5},
        {"objective": "weighted_sft", "steps": 1, "weight_temperature": 0.5},
        {"objective": "dpo", "steps": 1},
    ],
    ids=" ".join,
)
def test_lessons_are_those_of_the_trainer(
    write_rows: Callable[[Sequence[DatasetRow]], str], fields: dict[str, Any]
) -> None:
    lora = {"lora": {"rank": 4}} if "kl" in fields else {}
    config = CONFIG.validate_python({"optimizer": {"learning_rate": 1e-3}} | lora | fields)
    rows = [row(*one) for one in ROWS]
    chosen = select(Path(write_rows(rows)), config, TOKENS, 64)
    found = dict(zip((one.trajectory_id for one in rows), lessons(config, list(map(learner, rows))), strict=True))
    left = {name: reason for reason, names in chosen.named.items() for name in names}
    assert {name: one.words for name, one in found.items() if not one.is_trained} == left
    if isinstance(config, Cloning | Dpo):
        spoken = {one.trajectory_id: learner(one).spoken for one in rows}
        order = in_order(config, list(map(learner, rows)))
        assert [spoken[name] for name in order] == [episode.spoken for episode in chosen.episodes]
    trained = [one for one in found.values() if one.is_trained]
    if fields["objective"] == "dpo":
        assert [name for name, one in found.items() if one.is_trained] == ["a1", "a2"]
        return
    assert [one.advantage or 0.0 for one in trained if fields["objective"] != "weighted_sft"] == [
        episode.advantage for episode in chosen.episodes if fields["objective"] != "weighted_sft"
    ]
    weights = [1.0 if one.weight is None else one.weight for one in trained]
    assert weights == [episode.weight for episode in chosen.episodes]
    if needs_all(config):
        assert fields.get("lone") == "pooled" or fields["objective"] == "reinforce_baseline"
