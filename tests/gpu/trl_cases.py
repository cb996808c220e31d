"""Datasets, configs and comparisons for tests of the backend that trains with TRL."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from gpu import trainer, trl_trainer
from gpu.checkpoints import read_optimizer
from gpu.policy import Policy
from rl.protocol import CheckpointWritten, DatasetRow, Progress, TrainCommand

Write = Callable[[Sequence[DatasetRow]], str]
MakeRow = Callable[..., DatasetRow]
Settings = dict[str, object]

SFT: Settings = {
    "objective": "sft",
    "steps": 5,
    "batch_episodes": 4,
    "token_budget": 200,
    "optimizer": {"learning_rate": 3e-3, "schedule": "cosine", "warmup_steps": 2, "weight_decay": 0.01},
}
GRPO: Settings = {
    "objective": "grpo",
    "mini_batches": 1,
    "token_budget": 100,
    "lora": {"rank": 4, "alpha": 8},
    "optimizer": {"learning_rate": 5e-3},
}
WHOLE = {"objective": "gspo", "clip_low": 0.1, "clip_high": 0.2}


def run(train: Any, policy: Policy, base: Path, dataset: str, out: Path, config: Settings, **fields: Any) -> list[Any]:
    events: list[Any] = []
    command = TrainCommand(job=3, fence=2, dataset=dataset, out=str(out), base=str(base), config=config, **fields)
    train(command, policy, events.append)
    return events


def both(policy: Policy, base: Path, dataset: str, out: Path, config: Settings, **fields: Any) -> list[list[Any]]:
    trains = {"local": trainer.train, "trl": trl_trainer.train}
    return [run(train, policy, base, dataset, out / name, config, **fields) for name, train in trains.items()]


def written(events: Sequence[Any]) -> CheckpointWritten:
    (found,) = [event for event in events if isinstance(event, CheckpointWritten)]
    return found


def steps(events: Sequence[Any]) -> list[Progress]:
    return [event for event in events if isinstance(event, Progress) and event.step]


def weights(folder: str | Path) -> dict[str, torch.Tensor]:
    (file,) = (one for one in Path(folder).glob("*model.safetensors"))
    return load_file(file)


def apart(mine: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    """The norm of the difference over that of the first."""
    assert mine.keys() == theirs.keys()
    norm = sum(float(one.square().sum()) for one in mine.values())
    assert norm > 0
    return float((sum(float((one - theirs[name]).square().sum()) for name, one in mine.items()) / norm) ** 0.5)


def assert_same_update(start: Path, local: Sequence[Any], other: Sequence[Any], gradient: float = 1e-5) -> None:
    """Parameters, and the mean gradients that Adam has seen, agree; and, less so, what the parameters moved by.

    Adam's first step has about the same length for every gradient, also for one that is little but rounding.
    """
    began = weights(start)
    mine, theirs = (weights(written(events).path) for events in (local, other))
    assert apart(mine, theirs) <= 1e-4
    moves = [{name: one[name] - began[name] for name in began} for one in (mine, theirs)]
    assert apart(*moves) <= 1e-3
    moments = [read_optimizer(Path(written(events).path)) for events in (local, other)]
    means = [{name: one for name, one in each.items() if name.startswith("exp_avg.")} for each in moments]
    assert apart(*means) <= gradient


def spoken_row(rng: random.Random, number: int, several: bool) -> DatasetRow:
    """A trajectory of random tokens: a turn, one that goes on from it, and with ``several`` one that starts anew."""

    def ids(count: int) -> list[int]:
        return [rng.randrange(3, 290) for _ in range(count)]

    calls: list[dict[str, object]] = []
    said: list[int] = []
    for turn in range(3 if several else 2):
        prompt = ids(rng.randint(3, 9)) if turn == 2 else said + ids(rng.randint(2, 6))
        spoken = ids(rng.randint(1, 7))
        said = prompt + spoken
        calls.append(
            {
                "call_id": f"{number}-{turn}",
                "turn": turn,
                "model": "v1",
                "messages": [],
                "response": {"role": "assistant", "content": "."},
                "prompt_token_ids": prompt,
                "token_ids": spoken,
                "logprobs": [-5.7 + rng.uniform(-0.4, 0.4) for _ in spoken],
            }
        )
    return DatasetRow(trajectory_id=str(number), group=str(number // 4), score=rng.random(), calls=calls)


def groups(write_rows: Write, whole: bool = False) -> str:
    """A dataset file of three groups of four; every third trajectory is two sequences unless ``whole``."""
    rng = random.Random(5)
    return write_rows([spoken_row(rng, number, not whole and number % 3 == 0) for number in range(12)])
