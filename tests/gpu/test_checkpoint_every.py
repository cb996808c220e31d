"""Checkpoints within a training: they change nothing of it, and are those of a training that ended there."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from gpu.checkpoints import digest, read_optimizer, read_record
from gpu.policy import Policy
from gpu.trainer import train
from gpu.trl_trainer import train as train_with_trl
from rl.errors import ChildLost, InvalidInput, TrainingDiverged
from rl.protocol import CheckpointWritten, DatasetRow, Done, Paused, Progress, StateSaved, TrainCommand
from tests.gpu.test_trainer import rollouts

Write = Callable[[Sequence[DatasetRow]], str]
MakeRow = Callable[..., DatasetRow]

SFT: dict[str, object] = {
    "objective": "sft",
    "steps": 6,
    "batch_episodes": 3,
    "token_budget": 200,
    "optimizer": {"learning_rate": 3e-3, "warmup_steps": 2, "weight_decay": 0.01},
}
LORA = {**SFT, "lora": {"rank": 4, "alpha": 8}}
GRPO: dict[str, object] = {
    "objective": "grpo",
    "epochs": 2,
    "mini_batches": 2,
    "token_budget": 200,
    "lora": {"rank": 4, "alpha": 8},
    "optimizer": {"learning_rate": 5e-3},
}
EVERY: dict[str, object] = {"checkpoint_every": 2}


class Trainings:
    """Trainings of one dataset, each into a folder of its own."""

    def __init__(self, policy: Policy, base: Path, dataset: str, out: Path) -> None:
        self.policy, self.base, self.dataset, self.out = policy, base, dataset, out
        self.events: list[Any] = []

    def run(self, name: str, config: dict[str, object], **told: Any) -> list[Any]:
        """``told`` are fields of the command, and ``stopping`` and ``pausing`` as ``train`` takes them."""
        self.events = []
        when = {key: told.pop(key) for key in ("stopping", "pausing") if key in told}
        where = {"dataset": self.dataset, "out": str(self.out / name), "base": str(self.base)}
        train(TrainCommand(job=3, fence=2, config=config, **where, **told), self.policy, self.events.append, **when)
        return self.events

    def steps(self) -> int:
        return sum(isinstance(event, Progress) for event in self.events)


@pytest.fixture
def trainings(policy: Policy, base: Path, tmp_path: Path, write_rows: Write, make_row: MakeRow) -> Trainings:
    rows = [make_row(i, answers=["turn left"] if i % 2 else ["turn right", "move forward"]) for i in range(8)]
    return Trainings(policy, base, write_rows(rows), tmp_path / "out")


def written(events: Sequence[Any]) -> list[CheckpointWritten]:
    return [event for event in events if isinstance(event, CheckpointWritten)]


@pytest.mark.parametrize("config", [SFT, LORA], ids=["full", "adapter"])
def test_three_checkpoints_change_no_byte_of_the_last(trainings: Trainings, config: dict[str, object]) -> None:
    plain = written(trainings.run("plain", config))
    events = trainings.run("every", {**config, **EVERY})
    found = written(events)
    assert [one.step for one in found] == [2, 4, 6]
    assert (plain[0].sha256, plain[0].metrics["loss"]) == (found[-1].sha256, found[-1].metrics["loss"])
    assert [digest(Path(one.path)) for one in found] == [one.sha256 for one in found]
    assert len({one.sha256 for one in found}) == 3
    assert sorted(path.name for path in (trainings.out / "every").iterdir()) == [
        "step-000002",
        "step-000004",
        "step-000006",
    ]
    losses = [event.metrics["loss"] for event in events if isinstance(event, Progress)]
    assert [one.metrics["loss"] for one in found] == [losses[1], losses[3], losses[5]]


def test_one_in_the_middle_is_what_a_training_that_ended_there_writes(trainings: Trainings) -> None:
    middle = written(trainings.run("every", {**LORA, **EVERY}))[0]
    (short,) = written(trainings.run("short", {**LORA, "steps": 2}))
    assert (middle.step, middle.sha256) == (short.step, short.sha256)
    assert int(read_optimizer(Path(middle.path))["step"]) == 2
    assert read_record(Path(middle.path))["config"]["checkpoint_every"] == 2
    on = {**LORA, "seed": 4}
    further, same = (written(trainings.run(name, on, parent=one.path)) for name, one in (("a", middle), ("b", short)))
    assert (further[0].step, further[0].sha256) == (8, same[0].sha256)


@pytest.mark.parametrize(("every", "steps"), [(4, [4, 6]), (6, [6]), (7, [6]), (1, [1, 2, 3, 4, 5, 6])])
def test_the_last_step_is_written_once_whatever_the_interval(
    trainings: Trainings, every: int, steps: list[int]
) -> None:
    assert [one.step for one in written(trainings.run("out", {**LORA, "checkpoint_every": every}))] == steps


def test_steps_are_those_of_the_job_and_named_by_the_lineage(trainings: Trainings) -> None:
    (parent,) = written(trainings.run("parent", {**LORA, "steps": 3}))
    found = written(trainings.run("child", {**LORA, "steps": 4, **EVERY}, parent=parent.path))
    assert [one.step for one in found] == [5, 7]


def test_a_crash_between_two_of_them_loses_none_and_ends_with_the_same_bytes(trainings: Trainings) -> None:
    config = {**LORA, **EVERY}
    whole = written(trainings.run("whole", config))
    with pytest.raises(ChildLost, match="after step 3 of 6, before its last checkpoint"):
        trainings.run("crashed", config, save_seconds=1e-9, stopping=lambda: trainings.steps() == 3)
    said = list(trainings.events)
    kinds = [type(event) for event in said if not isinstance(event, Progress)]
    assert kinds == [StateSaved, CheckpointWritten, StateSaved], "at step 2 the checkpoint is said before the state"
    first, state = written(said), said[-2]
    assert (state.step, [one.step for one in first]) == (2, [2])
    resumed = trainings.run("resumed", config, resume=state.path)
    assert resumed[-1].manifest["resumed"] == {"step": 2}
    assert [one.sha256 for one in first + written(resumed)] == [one.sha256 for one in whole]
    again = trainings.run("again", config)
    assert [one.sha256 for one in written(again)] == [one.sha256 for one in whole]


def test_told_to_pause_at_such_a_step_it_has_written_the_checkpoint(trainings: Trainings) -> None:
    events = trainings.run("out", {**LORA, **EVERY}, pausing=lambda: trainings.steps() == 2)
    assert [type(event) for event in events] == [Progress, Progress, CheckpointWritten, StateSaved, Paused]


def test_mean_scores_are_said_of_steps_that_were_played_for_them(
    trainings: Trainings, policy: Policy, base: Path, write_rows: Write
) -> None:
    rows = rollouts(policy, base, groups=2, per_group=4)
    rows = [row.model_copy(update={"score": float(place % 2)}) for place, row in enumerate(rows)]
    trainings.dataset = write_rows(rows)
    events = trainings.run("grpo", {**GRPO, "checkpoint_every": 1})
    means = [event.metrics["mean_score"] for event in events if isinstance(event, Progress)]
    assert [one.metrics["mean_score"] for one in written(events)] == means
    # Two mini-batches of equal size are one pass over all of them, half of which scored 1.
    assert means[0] + means[1] == means[2] + means[3] == 1.0
    assert "mean_score" not in written(trainings.run("sft", SFT))[0].metrics


def test_diverging_after_one_of_them_says_no_last_one(trainings: Trainings) -> None:
    wild = {**SFT, "checkpoint_every": 1, "optimizer": {"learning_rate": 1e30}}
    with pytest.raises(TrainingDiverged):
        trainings.run("out", wild)
    assert not any(isinstance(event, Done) for event in trainings.events)
    assert all(event.step < 6 for event in written(trainings.events))


def test_trl_refuses_it_by_name(trainings: Trainings, policy: Policy) -> None:
    command = TrainCommand(
        job=1,
        fence=1,
        backend="trl",
        dataset=trainings.dataset,
        out=str(trainings.out),
        base=str(trainings.base),
        config=json.loads(json.dumps({**SFT, **EVERY})),
    )
    with pytest.raises(InvalidInput, match="checkpoint_every = 2: TRL does not read it"):
        train_with_trl(command, policy, trainings.events.append)
