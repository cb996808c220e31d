"""Episodes that share nothing, scored under the model that spoke them, and trainings on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from gpu.policy import Policy
from gpu.terms import score
from gpu.trainer import train
from gpu.tries import build
from rl.protocol import CheckpointWritten, DatasetRow, Done, Progress, TrainCommand
from rl.records import Call, Message
from rl.sequences import merge

Run = Callable[..., list[Any]]

NEEDED: dict[str, dict[str, object]] = {
    "dr_grpo": {"max_tokens": 20},
    "weighted_sft": {"steps": 1},
    "dpo": {"steps": 1},
}
SPOKEN = (3, 5, 2, 6)
SCORES = (0.0, 1.0, 0.0, 0.2)
"""Of the trajectories of each group; they are centred at 0.3."""
LONGEST_EPISODE = 3 * 24
"""Tokens of three calls that share nothing, each of 18 prompt tokens and up to 6 spoken ones."""


def calls(name: int, spoken: int) -> list[Call]:
    """Three calls, each with a prompt of its own: an episode of three sequences."""
    prompts = [[20 * turn + k + name for k in range(1, 19)] for turn in range(3)]
    return [
        Call.model_validate(
            {
                "call_id": f"{name}-{turn}",
                "turn": turn,
                "model": "ours",
                "messages": [],
                "response": {"role": "assistant", "content": "x"},
                "prompt_token_ids": prompt,
                "token_ids": [100 + (7 * name + k) % 50 for k in range(spoken)],
                "logprobs": [0.0] * spoken,
                "temperature": 1.0,
            }
        )
        for turn, prompt in enumerate(prompts)
    ]


def call(turn: int, prompt: list[int], spoken: list[int]) -> Call:
    """A call of ours; every token at a log-probability of -1."""
    return Call(
        call_id=str(turn),
        turn=turn,
        model="ours",
        messages=[],
        response=Message(role="assistant", content="x"),
        prompt_token_ids=prompt,
        token_ids=spoken,
        logprobs=[-1.0] * len(spoken),
    )


INTERLEAVED = [call(0, [1], [2, 3]), call(1, [8], [9]), call(2, [1, 2, 3, 4], [5])]
"""Spoken in the order 2, 3, 9, 5; the third call goes on from the first, so the sequences hold 2, 3, 5 and 9."""


def scored_rows(policy: Policy, base: Path) -> list[DatasetRow]:
    """Two groups of four episodes with the log-probabilities of the base."""
    model, _ = policy.trainable(str(base), None, None, seed=0)
    rows = []
    for name in range(8):
        said = []
        for call in calls(name, SPOKEN[name % 4]):
            with torch.no_grad():
                logp = score(model, build(merge([call], 0)), "padded").logp
            said.append(call.model_copy(update={"logprobs": logp.tolist()}).model_dump(mode="json"))
        rows.append(DatasetRow(trajectory_id=str(name), group=str(name // 4), score=SCORES[name % 4], calls=said))
    return rows


def trained(policy: Policy, base: Path, dataset: str, folder: Path) -> Run:
    """Trains on ``dataset`` by an objective's name and settings; ``pausing`` is told how many updates were said."""

    def run(
        name: str,
        objective: str,
        pausing: Callable[[int], bool] = lambda said: False,
        resume: str | None = None,
        parent: str | None = None,
        rows: str = dataset,
        curated: str | None = None,
        **fields: Any,
    ) -> list[Any]:
        events: list[Any] = []
        config = {"objective": objective, "optimizer": {"learning_rate": 1e-3}} | NEEDED.get(objective, {}) | fields
        where = {"dataset": rows, "curated": curated, "out": str(folder / name), "base": str(base)}
        command = TrainCommand(job=1, fence=1, config=config, parent=parent, resume=resume, **where)
        train(command, policy, events.append, pausing=lambda: pausing(len(steps(events))))
        return events

    return run


def steps(events: Sequence[Any]) -> list[dict[str, float]]:
    """The metrics of each update."""
    return [one.metrics for one in events if isinstance(one, Progress) and "loss" in one.metrics]


def first_loss(events: Sequence[Any]) -> float:
    return steps(events)[0]["loss"]


def written(events: Sequence[Any]) -> Path:
    """The folder of the checkpoint."""
    (one,) = [event for event in events if isinstance(event, CheckpointWritten)]
    return Path(one.path)


def weights(events: Sequence[Any]) -> dict[str, Tensor]:
    (file,) = written(events).glob("*model.safetensors")
    return load_file(file)


def manifest(events: Sequence[Any]) -> dict[str, Any]:
    assert isinstance(events[-1], Done)
    return events[-1].manifest
