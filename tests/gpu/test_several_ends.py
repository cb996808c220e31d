"""How trainings over two processes are paused, go on, and end when one of them is lost."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from gpu.locks import lock_device
from gpu.lost import End, reason
from gpu.policy import Policy
from gpu.trainer import train
from rl.errors import ChildLost, InvalidInput, OutOfMemory, PermanentError, TrainingDiverged
from rl.protocol import CheckpointWritten, DatasetRow, Done, Failed, Progress, Ready, StateSaved, TrainCommand
from tests.gpu.test_child import Child, command
from tests.gpu.test_several import distances
from tests.gpu.trainings import Run, manifest, trained, weights
from worker.child import Child as WorkersChild

CPU = torch.device("cpu")
SFT: dict[str, object] = {
    "batch_episodes": 3,
    "token_budget": 60,
    "lora": {"rank": 4, "alpha": 8},
    "optimizer": {"learning_rate": 1e-4},
}
LONG: dict[str, object] = {**SFT, "steps": 40}
SHORT: dict[str, object] = {**SFT, "steps": 4}


def rank_processes(of: int) -> list[psutil.Process]:
    return [one for one in psutil.Process(of).children(recursive=True) if "gpu.rank" in one.cmdline()]


def listening(process: psutil.Process) -> set[str]:
    """The addresses that a process listens on."""
    return {one.laddr.ip for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN}


@pytest.fixture
def run(base: Path, write_rows: Callable[..., str], make_row: Callable[..., DatasetRow], tmp_path: Path) -> Run:
    rows = write_rows([make_row(i, answers=["turn left"] * (1 + i % 3)) for i in range(8)])
    return trained(Policy(CPU, devices=[CPU, CPU]), base, rows, tmp_path)


def only(events: Sequence[Any], kind: type[Any]) -> Any:
    (found,) = [event for event in events if isinstance(event, kind)]
    return found


@pytest.mark.slow
def test_paused_on_two_it_ends_with_the_same_bytes_as_without_a_pause_and_goes_on_on_one_too(run: Run) -> None:
    whole = run("whole", "sft", devices=2, **LONG)
    first = run("first", "sft", pausing=lambda said: said >= 2, devices=2, **LONG)
    state = only(first, StateSaved)
    assert 2 <= state.step < 40
    last = run("last", "sft", resume=state.path, devices=2, **LONG)
    assert manifest(last)["resumed"] == {"step": state.step}
    assert only(last, CheckpointWritten).sha256 == only(whole, CheckpointWritten).sha256
    on_one = run("on-one", "sft", resume=state.path, **LONG)
    assert manifest(on_one)["resumed"] == {"step": state.step}
    assert max(distances(weights(on_one), weights(whole))) <= 1e-5


@pytest.mark.slow
def test_two_go_on_from_what_one_saved(run: Run) -> None:
    whole = run("whole", "sft", **SHORT)
    state = only(run("first", "sft", pausing=lambda said: said == 2, **SHORT), StateSaved)
    last = run("last", "sft", resume=state.path, devices=2, **SHORT)
    assert manifest(last)["resumed"] == {"step": 2}
    assert max(distances(weights(last), weights(whole))) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("place", [0, 1])
def test_a_process_that_is_killed_ends_all_of_them_by_name(run: Run, tmp_path: Path, place: int) -> None:
    killed_one: list[psutil.Process] = []

    def kill(said: int) -> bool:
        if said and not killed_one:  # a zombie has no environment to look at
            one = next(one for one in rank_processes(os.getpid()) if one.environ()["RANK"] == str(place))
            killed_one.append(one)
            one.kill()
        return False

    killed = rf"^process {place + 1} of 2 \(cpu\) was killed by SIGKILL; see the child's log$"
    with pytest.raises(ChildLost, match=killed):
        run("out", "sft", pausing=kill, devices=2, **LONG)
    assert rank_processes(os.getpid()) == []
    assert not list(tmp_path.glob("out/step-*"))


@pytest.mark.slow
def test_what_a_process_refuses_is_said_by_its_name(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such file"):
        run("out", "sft", rows=str(tmp_path / "none"), devices=2, **LONG)
    assert rank_processes(os.getpid()) == []


@pytest.mark.slow
def test_told_to_stop_at_once_the_training_ends_with_those_words_and_leaves_no_process(
    base: Path, dataset: str, tmp_path: Path
) -> None:
    where = {"dataset": dataset, "out": str(tmp_path / "out"), "base": str(base)}
    config = {"objective": "sft", "optimizer": {"learning_rate": 1e-4}, "devices": 2, **SHORT}
    asked = TrainCommand(job=1, fence=1, config=config, **where)
    words = r"^told to stop (before the training began$|before step 1 of 4$|after step 0 of 4,)"
    with pytest.raises(ChildLost, match=words):
        train(asked, Policy(CPU, devices=[CPU, CPU]), lambda event: None, stopping=lambda: True)
    assert rank_processes(os.getpid()) == []


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    child = Child(tmp_path / "state", device="cpu0+cpu1")
    yield child
    child.close()


@pytest.mark.slow
def test_a_child_of_two_devices_trains_on_both_and_outlives_a_lost_process(
    child: Child,
    base: Path,
    tmp_path: Path,
    write_rows: Callable[[Sequence[DatasetRow]], str],
    make_row: Callable[..., DatasetRow],
) -> None:
    dataset = write_rows([make_row(i) for i in range(8)])
    ready = child.until(Ready)
    assert isinstance(ready, Ready)
    assert sorted(path.name for path in (tmp_path / "state/devices").iterdir()) == ["cpu0.lock", "cpu1.lock"]
    child.send(command(base, dataset, tmp_path / "lost", devices=2, steps=10_000).line())
    child.until(Progress)
    rank_processes(ready.pid)[0].kill()
    while not isinstance(event := child.event(), Failed):
        assert isinstance(event, Progress)
    assert (event.job, event.fence, event.error) == (5, 9, "ChildLost")
    assert "was killed by SIGKILL" in event.message
    assert rank_processes(ready.pid) == []
    child.send(command(base, dataset, tmp_path / "out", devices=2).line())
    done = child.until(Done)
    assert isinstance(done, Done)
    assert done.manifest["sharding"] == {"world_size": 2, "strategy": "fsdp2", "backend": "gloo"}
    child.send(command(base, dataset, tmp_path / "stopped", devices=2, steps=10_000).line())
    child.until(Progress)
    started = rank_processes(ready.pid)
    child.process.send_signal(signal.SIGTERM)
    while not isinstance(event := child.event(), Failed):
        assert isinstance(event, Progress)
    assert event.error == "ChildLost"
    assert "told to stop after step" in event.message
    assert child.wait() == 0
    psutil.wait_procs(started, timeout=60)
    assert [one for one in started if one.is_running()] == []


@pytest.mark.slow
def test_processes_die_with_a_child_that_is_killed(
    child: Child,
    base: Path,
    tmp_path: Path,
    write_rows: Callable[[Sequence[DatasetRow]], str],
    make_row: Callable[..., DatasetRow],
) -> None:
    child.until(Ready)
    child.send(command(base, write_rows([make_row(0)]), tmp_path / "out", devices=2, steps=10_000).line())
    child.until(Progress)
    started = rank_processes(child.process.pid)
    assert len(started) == 2
    locks = {str(tmp_path / "state/devices" / f"cpu{number}.lock") for number in (0, 1)}
    for one in started:
        assert locks <= {file.path for file in one.open_files()}
        assert listening(one) <= {"127.0.0.1"}
    child.process.kill()
    _, alive = psutil.wait_procs(started, timeout=60)
    assert alive == []
    lock_device(tmp_path / "state", "cpu0+cpu1", seconds=60).close()


@pytest.mark.slow
def test_a_process_that_hangs_is_gone_once_the_worker_has_ended_the_child(
    base: Path,
    tmp_path: Path,
    write_rows: Callable[[Sequence[DatasetRow]], str],
    make_row: Callable[..., DatasetRow],
) -> None:
    child = WorkersChild("cpu0+cpu1", tmp_path / "state")
    try:
        ready = child.wait_ready()
        events = child.train(command(base, write_rows([make_row(0)]), tmp_path / "out", devices=2, steps=10_000))
        next(event for event in events if isinstance(event, Progress))
        started = rank_processes(ready.pid)
        started[1].suspend()
        next(event for event in events if event is None)  # nothing was said for a second
    finally:
        child.kill()
    assert len(started) == 2
    _, alive = psutil.wait_procs(started, timeout=60)
    assert alive == []
    lock_device(tmp_path / "state", "cpu0+cpu1", seconds=60).close()


def failed(error: str, message: str) -> Failed:
    return Failed(job=1, fence=1, error=error, message=message)


LOST = "the 2 processes of the training lost each other: "
GONE = failed("PermanentError", "RuntimeError: [/gloo/transport/tcp/pair.cc] Connection closed by peer [127.0.0.1]")
STORE = failed("PermanentError", "DistStoreError: wait timeout after 1800000ms, keys: /default_pg/0//cpu//0/0")


@pytest.mark.parametrize(
    ("ends", "kind", "message", "certain"),
    [
        ([(GONE, 0), (failed("OutOfMemory", "no room"), 0)], OutOfMemory, "no room", True),
        ([(failed("TrainingDiverged", "step 3"), None), (GONE, 0)], TrainingDiverged, "step 3", True),
        ([(GONE, 0), (None, -9)], ChildLost, "process 2 of 2 (cpu) was killed by SIGKILL; see the child's log", True),
        ([(GONE, 0), (None, 1)], ChildLost, "process 2 of 2 (cpu) exited with 1; see the child's log", True),
        ([(GONE, 0), (None, None)], ChildLost, LOST + GONE.message, False),
        ([(STORE, 0), (failed("PermanentError", "ValueError: 7"), 0)], PermanentError, "ValueError: 7", True),
        ([(STORE, 0), (None, None)], ChildLost, LOST + STORE.message, False),
    ],
)
def test_the_reason_is_the_one_that_the_others_follow_from(
    ends: list[tuple[Failed | None, int | None]], kind: type[Exception], message: str, certain: bool
) -> None:
    found = reason([End(place, "cpu", *one) for place, one in enumerate(ends)], None)
    assert (type(found[0]), str(found[0]), found[1]) == (kind, message, certain)


def test_a_process_that_the_kernel_killed_for_memory_had_none_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpu.lost.kills", lambda: 3)
    ends = [End(0, "cpu", GONE, 0), End(1, "cpu", None, -9)]
    found, certain = reason(ends, 2)
    assert (type(found), certain) == (OutOfMemory, True)
    assert str(found) == "the kernel killed process 2 of 2 (cpu) because the machine's memory ran out"
    assert isinstance(reason(ends, 3)[0], ChildLost)
    assert isinstance(reason(ends, None)[0], ChildLost)
