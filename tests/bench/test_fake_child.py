"""The child without a model, under the supervisor's real side of the conversation."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.faults.journal import VARIABLE
from rl.errors import ChildLost
from rl.protocol import CheckpointWritten, DatasetRow, Done, Event, Failed, Paused, Progress, StateSaved, TrainCommand
from worker import child as worker_child
from worker.child import Child

Order = Callable[..., TrainCommand]


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Child]:
    monkeypatch.setattr(worker_child, "TICK_SECONDS", 0.05)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "journal"))
    monkeypatch.setenv("RLFLEET_STEP_SECONDS", "0.02")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    one = Child("cpu", tmp_path, "bench.faults.child")
    yield one
    one.kill()


@pytest.fixture
def order(tmp_path: Path) -> Order:
    """Makes commands for job 7."""

    def make(behaviour: str = "plain", *, steps: int = 4, fence: int = 1, resume: str | None = None) -> TrainCommand:
        row = DatasetRow(trajectory_id="t", group=f"2025-01-15T10:00 {behaviour}", score=1.0, calls=[])
        (tmp_path / "dataset.jsonl").write_text(row.model_dump_json() + "\n")
        return TrainCommand(
            job=7,
            fence=fence,
            dataset=str(tmp_path / "dataset.jsonl"),
            out=str(tmp_path / f"fence-{fence}"),
            base="no-model",
            config={"steps": steps},
            resume=resume,
        )

    return make


def events(child: Child, command: TrainCommand) -> list[Event]:
    return [event for event in child.train(command) if event is not None]


def test_a_training_writes_one_checkpoint_that_its_inputs_decide(child: Child, order: Order) -> None:
    first, second = events(child, order(fence=1)), events(child, order(fence=2))
    assert [one.step for one in first if isinstance(one, Progress)] == [1, 2, 3, 4]
    written = [one for one in first + second if isinstance(one, CheckpointWritten)]
    assert len({one.sha256 for one in written}) == 1
    assert [Path(one.path, "weights.json").is_file() for one in written] == [True, True]
    assert first[-1] == Done(job=7, fence=1, manifest={"steps": 4, "resumed": {"step": 0}})


def test_a_paused_training_goes_on_from_the_step_it_saved(child: Child, order: Order, tmp_path: Path) -> None:
    command, seen = order(steps=300), list[Event]()
    for event in child.train(command):
        if isinstance(event, Progress) and event.step == 3:
            child.pause(command)
        if event is not None:
            seen.append(event)
        if isinstance(event, Paused):
            break
    saved, paused = seen[-2:]
    assert isinstance(saved, StateSaved)
    assert paused == Paused(job=7, fence=1, step=saved.step)
    assert 3 <= saved.step < 300
    assert json.loads((tmp_path / "fence-1" / f"state-{saved.step}" / "weights.json").read_text())["step"] == saved.step
    done = events(child, order(steps=300, fence=2, resume=saved.path))[-1]
    assert done == Done(job=7, fence=2, manifest={"steps": 300, "resumed": {"step": saved.step}})


@pytest.mark.parametrize(("word", "error"), [("oom", "OutOfMemory"), ("diverged", "TrainingDiverged")])
def test_a_training_that_is_to_fail_says_why_and_the_child_lives_on(
    child: Child, order: Order, word: str, error: str
) -> None:
    last = events(child, order(word))[-1]
    assert isinstance(last, Failed)
    assert last.error == error
    assert isinstance(events(child, order(fence=2))[-1], Done)


def test_a_full_disk_is_one_and_leaves_nothing_behind(child: Child, order: Order, tmp_path: Path) -> None:
    last = events(child, order("full"))[-1]
    assert isinstance(last, Failed)
    assert last.error == "DiskFull"
    assert list((tmp_path / "fence-1").iterdir()) == []


@pytest.mark.parametrize(("word", "end"), [("exit", "-9"), ("partial", "-9"), ("broken", "1")])
def test_a_child_that_is_to_die_dies(child: Child, order: Order, tmp_path: Path, word: str, end: str) -> None:
    with pytest.raises(ChildLost, match=f"exited with {end}"):
        events(child, order(word))
    assert not (tmp_path / "fence-1" / "checkpoint").exists()


def test_a_word_may_hold_for_the_first_fences_only(child: Child, order: Order) -> None:
    with pytest.raises(ChildLost):
        events(child, order("exit@1"))
    assert isinstance(events(child, order("exit@1", fence=2))[-1], Done)
