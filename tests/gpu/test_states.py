"""Pausing and going on: the weights are those of a training that was never interrupted, to the bit."""

import errno
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from gpu.policy import Policy
from gpu.trainer import train
from rl.errors import DiskFull
from rl.protocol import CheckpointWritten, DatasetRow, Done, Paused, Progress, StateSaved, TrainCommand

Write = Callable[[Sequence[DatasetRow]], str]
MakeRow = Callable[..., DatasetRow]

SFT: dict[str, object] = {
    "objective": "sft",
    "steps": 4,
    "batch_episodes": 3,
    "token_budget": 200,
    "optimizer": {"learning_rate": 3e-3, "schedule": "cosine", "warmup_steps": 2, "weight_decay": 0.01},
}
LORA = {**SFT, "lora": {"rank": 4, "alpha": 8}}
ANSWERS = (["turn left"], ["turn right"], ["move forward", "go to the red ball"], ["go to the blue key"])


class Runs:
    """Trainings of one dataset; each is told to pause after ``pause_after`` steps."""

    def __init__(self, policy: Policy, base: Path, dataset: str, out: Path) -> None:
        self.policy, self.base, self.dataset, self.out = policy, base, dataset, out

    def run(self, name: str, config: dict[str, object], pause_after: int | None = None, **fields: Any) -> list[Any]:
        events: list[Any] = []
        fields = {"dataset": self.dataset, "out": str(self.out / name), "base": str(self.base), **fields}
        command = TrainCommand(job=3, fence=2, config=config, **fields)
        train(command, self.policy, events.append, pausing=lambda: steps(events) == pause_after)
        return events


@pytest.fixture
def runs(policy: Policy, base: Path, tmp_path: Path, write_rows: Write, make_row: MakeRow) -> Runs:
    rows = [make_row(i, answers=ANSWERS[i % 4], score=float(i % 3)) for i in range(8)]
    return Runs(policy, base, write_rows(rows), tmp_path / "out")


def steps(events: Sequence[Any]) -> int:
    return sum(isinstance(event, Progress) for event in events)


def only(events: Sequence[Any], kind: type[Any]) -> Any:
    (found,) = [event for event in events if isinstance(event, kind)]
    return found


@pytest.mark.parametrize("config", [SFT, LORA], ids=["full", "adapter"])
def test_a_paused_training_ends_where_an_uninterrupted_one_does(runs: Runs, config: dict[str, object]) -> None:
    whole = runs.run("whole", config)
    first = runs.run("first", config, pause_after=2)
    assert [type(event) for event in first] == [Progress, Progress, StateSaved, Paused]
    state = only(first, StateSaved)
    assert (state.job, state.fence, state.step, only(first, Paused).step) == (3, 2, 2, 2)
    second = runs.run("second", config, pause_after=1, resume=state.path)
    assert [event.step for event in second] == [3, 3, 3]
    last = runs.run("last", config, resume=only(second, StateSaved).path)
    assert [type(event) for event in last] == [Progress, CheckpointWritten, Done]
    assert only(last, CheckpointWritten).sha256 == only(whole, CheckpointWritten).sha256
    assert only(last, CheckpointWritten).metrics["loss"] == only(whole, CheckpointWritten).metrics["loss"]
    manifest = only(last, Done).manifest
    assert manifest == only(whole, Done).manifest | {"resumed": {"step": 3}}
    assert manifest["updates"] == 4


def test_it_goes_on_from_a_parent_as_well(runs: Runs) -> None:
    parent = only(runs.run("parent", LORA), CheckpointWritten).path
    again = {**LORA, "seed": 1}
    whole = runs.run("whole", again, parent=parent)
    state = only(runs.run("first", again, pause_after=3, parent=parent), StateSaved)
    assert state.step == 3, "the steps of this command, not of the lineage"
    last = runs.run("last", again, parent=parent, resume=state.path)
    assert only(last, CheckpointWritten).step == 8
    assert only(last, CheckpointWritten).sha256 == only(whole, CheckpointWritten).sha256
    other = runs.run("other", again, resume=state.path)
    assert "another config" in only(other, Done).manifest["resume_refused"]


def test_fewer_episodes_than_mini_batches_go_on_too(runs: Runs, tmp_path: Path) -> None:
    """Two episodes in three mini-batches: each is a batch, and no batch is empty."""
    rows = [json.loads(line) for line in Path(runs.dataset).read_text().splitlines()[:2]]
    for row, score in zip(rows, (0.0, 1.0), strict=True):
        row.update(score=score, group="0")
        for call in row["calls"]:
            call.update(prompt_token_ids=[5, 6, 7], token_ids=[8, 9], logprobs=[-5.0, -6.0], temperature=1.0)
    runs.dataset = str(tmp_path / "rollouts.jsonl")
    Path(runs.dataset).write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {"objective": "grpo", "epochs": 2, "mini_batches": 3, "optimizer": {"learning_rate": 1e-3}}
    whole = runs.run("whole", config)
    assert [event.step for event in whole if isinstance(event, Progress)] == [1, 2, 3, 4]
    first = runs.run("first", config, pause_after=3)
    assert only(first, StateSaved).step == 3
    last = runs.run("last", config, resume=only(first, StateSaved).path)
    assert [event.step for event in last if isinstance(event, Progress)] == [4]
    assert only(last, CheckpointWritten).sha256 == only(whole, CheckpointWritten).sha256


def test_before_the_first_step_there_is_nothing_to_save(runs: Runs) -> None:
    events = runs.run("out", SFT, pause_after=0)
    assert [type(event) for event in events] == [Paused]
    assert events[0].step == 0
    assert not (runs.out / "out").exists()


def test_paused_again_at_once_it_has_a_state_of_its_own(runs: Runs) -> None:
    first = only(runs.run("first", SFT, pause_after=2), StateSaved)
    second = runs.run("second", SFT, pause_after=0, resume=first.path)
    assert [type(event) for event in second] == [StateSaved, Paused]
    saved = only(second, StateSaved)
    assert (saved.step, saved.sha256) == (2, first.sha256)
    assert Path(saved.path) == runs.out / "second" / "state-000002"
    assert Path(first.path).is_dir()


def test_states_are_saved_every_so_often_and_the_newest_stays(runs: Runs) -> None:
    events = runs.run("out", SFT, save_seconds=1e-9)
    assert [type(event) for event in events[:-2]] == [Progress, StateSaved] * 3 + [Progress]
    assert sorted(path.name for path in (runs.out / "out").iterdir()) == ["state-000002", "state-000003", "step-000004"]
    assert only(events, CheckpointWritten).sha256 == only(runs.run("plain", SFT), CheckpointWritten).sha256
    last = runs.run("last", SFT, resume=str(runs.out / "out" / "state-000003"), save_seconds=3600)
    assert steps(last) == 1
    assert only(last, CheckpointWritten).sha256 == only(events, CheckpointWritten).sha256
    paused = runs.run("paused", SFT, save_seconds=1e-9, pause_after=1)
    assert [type(event) for event in paused] == [Progress, StateSaved, Paused]


def test_it_goes_on_with_less_memory(runs: Runs) -> None:
    state = only(runs.run("first", SFT, pause_after=2), StateSaved)
    last = runs.run("last", {**SFT, "token_budget": 60}, resume=state.path)
    assert only(last, Done).manifest["resumed"] == {"step": 2}
    assert only(last, Done).manifest["token_budget"] == 60


def damage(folder: Path, what: str) -> None:
    record = folder / "state.json"
    weights = folder / "weights.safetensors"
    if what == "missing":
        shutil.rmtree(folder)
    elif what == "incomplete":
        weights.unlink()
    elif what == "weights":
        save_file({name: tensor + 1 for name, tensor in load_file(weights).items()}, weights)
    elif what == "position":
        record.write_text(record.read_text().replace('"batches": 2', '"batches": 3'))
    elif what == "text":
        record.write_text("{")
    elif what == "schema":
        record.write_text(record.read_text().replace('"schema": 1', '"schema": 2'))


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("missing", "no complete state lies there: No such file"),
        ("incomplete", "no complete state lies there: No such file"),
        ("weights", "its contents are not what was saved"),
        ("position", "its contents are not what was saved"),
        ("text", "state.json is not of this schema"),
        ("schema", "state.json is not of this schema: schema"),
        ("config", "it was saved with another config"),
        ("dataset", "it was saved with another dataset"),
    ],
)
def test_a_state_that_cannot_be_used_is_named_and_it_starts_over(runs: Runs, what: str, why: str) -> None:
    state = only(runs.run("first", LORA, pause_after=2), StateSaved)
    damage(Path(state.path), what)
    config = {**LORA, "seed": 9} if what == "config" else LORA
    if what == "dataset":
        Path(runs.dataset).write_text("".join(Path(runs.dataset).read_text().splitlines(keepends=True)[1:]))
    last = runs.run("last", config, resume=state.path)
    manifest = only(last, Done).manifest
    assert why in manifest["resume_refused"]
    assert state.path in manifest["resume_refused"]
    assert "resumed" not in manifest
    assert steps(last) == 4
    whole = runs.run("whole", config)
    assert only(last, CheckpointWritten).sha256 == only(whole, CheckpointWritten).sha256


def test_a_full_disk_leaves_the_older_state(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []

    def full_after_two(tensors: Any, path: Path) -> None:
        written.append(path)
        if len(written) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        save_file(tensors, path)

    monkeypatch.setattr("gpu.states.save_file", full_after_two)
    with pytest.raises(DiskFull, match="no space left while saving a state"):
        runs.run("out", SFT, save_seconds=1e-9)
    assert [path.name for path in (runs.out / "out").iterdir()] == ["state-000001"]
    monkeypatch.undo()
    assert steps(runs.run("last", SFT, resume=str(runs.out / "out" / "state-000001"))) == 3
