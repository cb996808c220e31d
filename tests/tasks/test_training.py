"""What the GPU worker does with what its child says; the child is a real process without a model."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from db.jobs import Claim
from rl.errors import (
    Cancelled,
    ChildLost,
    DiskFull,
    Drained,
    Fenced,
    NoTrainingData,
    OffPolicyRefused,
    OutOfMemory,
    PermanentError,
    RlfleetError,
    TrainingDiverged,
    TransientError,
)
from rl.protocol import CheckpointWritten, Event, Failed, TrainCommand
from tasks import supervise as supervision
from tests.tasks.conftest import HOUR
from tests.worker.doubles import MakeChild, command, is_gone
from worker import drain
from worker import settings as worker_settings
from worker.child import Child


@dataclass
class Beats:
    """A lease that remembers what it was told, and is lost by raising ``error`` once a step has been made."""

    error: BaseException | None = None
    told: list[Mapping[str, Any]] = field(default_factory=list)
    saved: list[Mapping[str, Any]] = field(default_factory=list)
    claim: Claim = field(default_factory=lambda: Claim(7, "train", 1, "main", {}, CONFIG, 3, 1))

    def keep(self, progress: Mapping[str, Any] | None = None) -> None:
        if progress is not None:
            self.told.append(progress)
            if self.error is not None:
                raise self.error

    def renew(self, progress: Mapping[str, Any] | None, resume: Mapping[str, Any]) -> None:
        self.saved.append(resume)


def supervise(child: Child, *script: str, lease: Beats | None = None) -> tuple[list[CheckpointWritten], dict[str, Any]]:
    about = {"stage": "train", "windows": [HOUR]}
    return supervision.supervise(child, command(*script), lease or Beats(), about)  # type: ignore[arg-type]


def test_a_training_gives_its_checkpoints_and_what_was_really_used(make_child: MakeChild) -> None:
    lease = Beats()
    written, manifest = supervise(make_child(), "progress", "checkpoint", "done", lease=lease)
    assert written == [CheckpointWritten(job=7, fence=3, step=2, path="/out", kind="adapter", sha256="0" * 64)]
    assert manifest == {"steps": 2}
    about = {"stage": "train", "windows": [HOUR], "step": 1, "total": 2, "metrics": {"loss": 0.5}}
    assert lease.told[0] == about | {"curves": {"step": [1], "loss": [0.5]}}


def test_no_progress_is_a_stall_and_ends_the_child(make_child: MakeChild, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_STALL_SECONDS", "5")
    child = make_child()
    pid = child.wait_ready().pid
    lease = Beats()
    with pytest.raises(ChildLost, match=r"no progress for 5 s; see .*child-cpu\.log"):
        supervise(child, "progress", "hang", lease=lease)
    assert is_gone(pid)
    assert len(lease.told) > 1, "the lease is renewed while nothing is said"


def test_a_long_training_that_moves_is_no_stall(make_child: MakeChild, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_STALL_SECONDS", "1")
    child, now = make_child(), [0.0]
    train = child.train

    def slowly(wanted: TrainCommand) -> Iterator[Event | None]:
        for event in train(wanted):
            if event is not None:
                now[0] += 0.9
                yield None
            yield event

    monkeypatch.setattr(child, "train", slowly)
    monkeypatch.setattr(supervision, "time", SimpleNamespace(monotonic=lambda: now[0]))
    assert supervise(child, *["progress"] * 5, "done") == ([], {"steps": 2})
    assert now[0] > 5


@pytest.mark.parametrize(
    "error", [Fenced("taken over"), Cancelled("on request"), SystemExit(0)], ids=lambda error: type(error).__name__
)
def test_a_job_that_is_no_longer_ours_ends_the_child(make_child: MakeChild, error: BaseException) -> None:
    child = make_child()
    pid = child.wait_ready().pid
    with pytest.raises(type(error)):
        supervise(child, "progress", "hang", lease=Beats(error))
    assert is_gone(pid)
    assert not child.alive


def test_a_child_that_dies_is_lost_and_the_next_attempt_has_another(make_child: MakeChild) -> None:
    child = make_child()
    first = child.wait_ready().pid
    with pytest.raises(ChildLost, match="exited with -9"):
        supervise(child, "progress", "die")
    assert supervise(child, "done") == ([], {"steps": 2})
    assert child.wait_ready().pid != first


def test_a_failure_of_the_child_is_raised_by_its_name_and_the_child_lives_on(make_child: MakeChild) -> None:
    child = make_child()
    pid = child.wait_ready().pid
    with pytest.raises(DiskFull, match=r"^no room$"):
        supervise(child, "disk-full")
    assert child.wait_ready().pid == pid
    assert supervise(child, "done") == ([], {"steps": 2})


def test_a_worker_that_goes_down_has_the_state_saved_and_hands_the_job_back(make_child: MakeChild) -> None:
    child, lease = make_child(), Beats()
    child.wait_ready()
    drain.begin()
    try:
        with pytest.raises(Drained, match="after step 4") as caught:
            supervise(child, "progress", "save-when-paused", lease=lease)
    finally:
        drain.reset()
    assert caught.value.resume == {"path": "/out/state-4", "step": 4, "sha256": "1" * 64, "curves": DRAWN}
    assert lease.saved == [caught.value.resume]
    assert not child.alive


def test_a_saved_state_is_written_down_while_training_goes_on(make_child: MakeChild) -> None:
    lease = Beats()
    supervise(make_child(), "progress", "state", "done", lease=lease)
    assert lease.saved == [{"path": "/out/state-4", "step": 4, "sha256": "1" * 64, "curves": DRAWN}]


def checkpoint(step: int, path: Path, fence: int = 2) -> CheckpointWritten:
    path.mkdir(parents=True, exist_ok=True)
    return CheckpointWritten(job=7, fence=fence, step=step, path=str(path), kind="adapter", sha256=str(step) * 64)


def test_checkpoints_of_the_attempt_before_are_handed_on_with_its_state(make_child: MakeChild, tmp_path: Path) -> None:
    lease = Beats()
    supervise(make_child(), "checkpoint", "state", "done", lease=lease)
    said = CheckpointWritten(job=7, fence=3, step=2, path="/out", kind="adapter", sha256="0" * 64)
    state = {"path": "/out/state-4", "step": 4, "sha256": "1" * 64}
    assert lease.saved == [state | {"checkpoints": [said.model_dump(mode="json", by_alias=True)]}]

    earlier, rewritten, gone = (checkpoint(step, tmp_path / f"step-{step}") for step in (1, 2, 9))
    Path(gone.path).rmdir()
    kept = [one.model_dump(mode="json", by_alias=True) for one in (earlier, rewritten, gone)]
    claim = Claim(7, "train", 1, "main", {}, CONFIG, 3, 2, resume=state | {"checkpoints": kept})
    for goes_on, expected in ((True, [earlier, said]), (False, [said])):
        lease = Beats(claim=claim)
        told = command("checkpoint", "state", "done").model_copy(update={"resume": "/state" if goes_on else None})
        written, _ = supervision.supervise(make_child(), told, lease, {})  # type: ignore[arg-type]
        assert written == expected
        assert [one["step"] for one in lease.saved[0]["checkpoints"]] == [one.step for one in expected]


def test_the_curves_go_on_where_the_attempt_before_ended(make_child: MakeChild) -> None:
    drawn = {"step": [0, 2, 3], "loss": [0.9, 0.8, 0.7]}
    claim = Claim(7, "train", 1, "main", {}, CONFIG, 3, 2, resume={"path": "/state", "step": 2, "curves": drawn})
    for goes_on, steps in ((True, [0, 2]), (False, [])):
        lease = Beats(claim=claim)
        told = command("progress", "done").model_copy(update={"resume": "/state" if goes_on else None})
        supervision.supervise(make_child(), told, lease, {})  # type: ignore[arg-type]
        assert lease.told[-1]["curves"]["step"][: len(steps)] == steps
        assert 3 not in lease.told[-1]["curves"]["step"], "the step after the saved state is done again"


DRAWN = {"step": [1], "loss": [0.5]}
CONFIG: dict[str, Any] = {"objective": "sft", "token_budget": 1024, "lora": {"rank": 8, "alpha": 16}}


@pytest.fixture
def killed_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel counts one more kill at every look."""
    counts = itertools.count()
    monkeypatch.setattr("worker.child.kills_for_memory", lambda: next(counts))


def test_a_child_that_the_kernel_killed_for_memory_goes_on_with_smaller_micro_batches(
    make_child: MakeChild, killed_for_memory: None
) -> None:
    child = make_child()
    with pytest.raises(OutOfMemory, match="memory ran out") as caught:
        supervision.supervise(child, with_config("die", token_budget=1024), Beats(), {})  # type: ignore[arg-type]
    assert caught.value.adjust == {"token_budget": 512}
    assert not child.alive


def test_when_the_last_halving_was_not_enough_the_job_fails_and_says_so(
    make_child: MakeChild, killed_for_memory: None
) -> None:
    with pytest.raises(PermanentError, match=r"memory ran out; no smaller way to train it is left$"):
        supervision.supervise(make_child(), with_config("die", token_budget=128), Beats(), {})  # type: ignore[arg-type]


def test_after_the_child_has_tried_smaller_batches_itself_four_bits_are_left_on_a_gpu(
    make_child: MakeChild, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = with_config("out-of-memory", **CONFIG)
    with pytest.raises(PermanentError, match=r"^12 GiB were wanted; no smaller way to train it is left$"):
        supervision.supervise(make_child(), wanted, Beats(), {})  # type: ignore[arg-type]
    monkeypatch.setenv("RLFLEET_DEVICE", "gpu0")
    worker_settings.settings.cache_clear()
    with pytest.raises(OutOfMemory, match="12 GiB were wanted") as caught:
        supervision.supervise(make_child(), wanted, Beats(), {})  # type: ignore[arg-type]
    assert caught.value.adjust == {"quantization": "4bit"}


@pytest.mark.parametrize("device", ["cpu0+cpu1", "gpu0+gpu1"])
def test_a_child_of_several_devices_has_tried_nothing_itself_and_goes_on_with_half_the_budget(
    make_child: MakeChild, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setenv("RLFLEET_DEVICE", device)
    worker_settings.settings.cache_clear()
    config = CONFIG | {"devices": 2}
    lease = Beats(claim=Claim(7, "train", 1, "main", {}, config, 3, 1))
    with pytest.raises(OutOfMemory, match="12 GiB were wanted") as caught:
        supervision.supervise(make_child(), with_config("out-of-memory", **config), lease, {})  # type: ignore[arg-type]
    assert caught.value.adjust == {"token_budget": 512}
    last = with_config("out-of-memory", **config | {"token_budget": 128})
    with pytest.raises(PermanentError, match=r"^12 GiB were wanted; no smaller way to train it is left$"):
        supervision.supervise(make_child(), last, lease, {})  # type: ignore[arg-type]


def with_config(*script: str, **config: object) -> TrainCommand:
    made = command(*script)
    return made.model_copy(update={"config": made.config | config})


def failed(error: str, message: str = "what happened") -> RlfleetError:
    event = Failed(job=1, fence=1, error=error, message=message)
    return supervision._named(event, {}, Beats())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "kind", [DiskFull, TrainingDiverged, NoTrainingData, OffPolicyRefused, PermanentError, TransientError]
)
def test_an_error_that_has_a_name_here_is_that_error(kind: type[RlfleetError]) -> None:
    error = failed(kind.__name__)
    assert type(error) is kind
    assert str(error) == "what happened"


def test_wrong_input_stays_permanent_with_its_words() -> None:
    error = failed("InvalidInput", "base = '/base': no such folder")
    assert type(error) is PermanentError
    assert str(error) == "InvalidInput: base = '/base': no such folder"


@pytest.mark.parametrize("name", ["ValueError", "CudaError", "annotations", "__doc__", "Exception"])
def test_an_error_without_a_name_here_is_worth_another_try(name: str) -> None:
    error = failed(name)
    assert type(error) is TransientError
    assert str(error) == f"{name}: what happened"


@pytest.mark.parametrize("name", ["DiskFull", "InvalidInput", "ValueError"])
def test_an_error_of_the_child_travels_between_processes(name: str) -> None:
    error = failed(name)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (type(again), str(again)) == (type(error), str(error))
