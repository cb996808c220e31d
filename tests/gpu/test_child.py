"""The resident child as a real process."""

import contextlib
import fcntl
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from gpu.child import Commands, lock_device
from rl.errors import StartError
from rl.protocol import (
    EVENTS,
    CheckpointWritten,
    DatasetRow,
    Done,
    Event,
    Failed,
    PauseCommand,
    Paused,
    Progress,
    Ready,
    StateSaved,
    StopCommand,
    TrainCommand,
)

ROOT = Path(__file__).parents[2]
SFT: dict[str, object] = {"objective": "sft", "steps": 3, "optimizer": {"learning_rate": 1e-3}}


class Child:
    """One ``python -m gpu.child`` with its two pipes."""

    ready: Event

    def __init__(self, state: Path, parent: int | None = None, device: str = "cpu", **variables: str) -> None:
        commands_out, self.commands_in = os.pipe()
        events_out, events_in = os.pipe()
        arguments = ["--device", device, "--state", state, "--commands-fd", commands_out, "--events-fd", events_in]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gpu.child", *map(str, arguments), "--parent", str(parent or os.getpid())],
            pass_fds=(commands_out, events_in),
            cwd=ROOT,
            stderr=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
        )
        os.close(commands_out)
        os.close(events_in)
        self._events = os.fdopen(events_out, "rb")

    def send(self, line: bytes) -> None:
        os.write(self.commands_in, line)

    def event(self) -> Event:
        line = self._events.readline()
        assert line, "the child closed its events"
        return EVENTS.validate_json(line)

    def until(self, kind: type[Event]) -> Event:
        while not isinstance(event := self.event(), kind):
            assert not isinstance(event, Failed), event
        return event

    def hold_back(self, size: int) -> None:
        """Let the events that are not read yet take so many bytes; who says more waits until they are."""
        fcntl.fcntl(self._events, fcntl.F_SETPIPE_SZ, size)

    def wait(self) -> int:
        return self.process.wait(120)

    def close(self) -> None:
        for close in (lambda: os.close(self.commands_in), self._events.close):
            with contextlib.suppress(OSError):
                close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    child = Child(tmp_path / "state")
    yield child
    child.close()


@pytest.fixture(scope="module")
def resident(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    """A child for tests that leave it running; it is told to stop after the last of them."""
    child = Child(tmp_path_factory.mktemp("resident"), RLFLEET_ENV="test")
    child.ready = child.until(Ready)
    yield child
    child.send(StopCommand().line())
    assert child.wait() == 0
    child.close()


def command(base: Path, dataset: str, out: Path, **config: object) -> TrainCommand:
    return TrainCommand(job=5, fence=9, dataset=dataset, out=str(out), base=str(base), config={**SFT, **config})


def test_it_serves_while_it_trains(
    resident: Child,
    base: Path,
    tmp_path: Path,
    write_rows: Callable[[Sequence[DatasetRow]], str],
    make_row: Callable[..., DatasetRow],
) -> None:
    dataset = write_rows([make_row(i) for i in range(8)])
    ready = resident.ready
    assert isinstance(ready, Ready)
    assert (ready.pid, ready.device) == (resident.process.pid, "cpu")
    with httpx.Client(base_url=ready.url, timeout=30) as client:
        client.post("/v1/load_lora_adapter", json={"lora_name": "v1", "lora_path": str(base)}).raise_for_status()
        resident.send(command(base, dataset, tmp_path / "out", steps=40).line())
        resident.until(Progress)
        body = {"model": "v1", "messages": [{"role": "user", "content": "x"}], "max_tokens": 3}
        assert client.post("/v1/chat/completions", json=body).json()["choices"][0]["token_ids"]
        progress = resident.until(Progress)
        assert isinstance(progress, Progress)
        assert progress.step < 40, "the answer came while training went on"
    checkpoint, done = resident.until(CheckpointWritten), resident.until(Done)
    assert isinstance(checkpoint, CheckpointWritten)
    assert isinstance(done, Done)
    assert (checkpoint.job, checkpoint.fence, done.job, done.fence) == (5, 9, 5, 9)
    assert json.loads((Path(checkpoint.path) / "checkpoint.json").read_text())["sha256"] == checkpoint.sha256


def test_a_failed_command_is_reported_and_the_child_lives_on(resident: Child, base: Path, tmp_path: Path) -> None:
    resident.send(command(base, str(tmp_path / "none"), tmp_path / "out").line())
    failed = resident.event()
    assert isinstance(failed, Failed)
    assert (failed.job, failed.fence, failed.error) == (5, 9, "InvalidInput")
    assert "no such file" in failed.message
    resident.send(b'{"schema": 2, "command": "train"}\n')
    failed = resident.event()
    assert isinstance(failed, Failed)
    assert (failed.job, failed.error) == (0, "InvalidInput")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's pipes have a size that can be set")
def test_a_pause_is_seen_while_it_trains_and_another_child_would_go_on_from_there(
    resident: Child,
    base: Path,
    tmp_path: Path,
    write_rows: Callable[[Sequence[DatasetRow]], str],
    make_row: Callable[..., DatasetRow],
) -> None:
    dataset = write_rows([make_row(i) for i in range(8)])
    whole = command(base, dataset, tmp_path / "whole", steps=60, batch_episodes=2)
    resident.send(whole.line())
    expected = resident.until(CheckpointWritten)
    resident.until(Done)
    resident.hold_back(4096)  # some 17 steps, and as many that are buffered on this side
    resident.send(whole.model_copy(update={"out": str(tmp_path / "first")}).line())
    resident.send(PauseCommand(job=5, fence=8).line())
    resident.until(Progress)
    resident.until(Progress)
    resident.send(PauseCommand(job=5, fence=9).line())
    saved = resident.until(StateSaved)
    paused = resident.event()
    resident.hold_back(1 << 16)
    assert isinstance(saved, StateSaved)
    assert isinstance(paused, Paused)
    assert 2 <= saved.step == paused.step < 60
    assert (saved.job, saved.fence, paused.job, paused.fence) == (5, 9, 5, 9)
    again = {"fence": 10, "out": str(tmp_path / "second"), "resume": saved.path}
    resident.send(whole.model_copy(update=again).line())
    resumed = resident.event()
    assert isinstance(resumed, Progress)
    assert resumed.step == saved.step + 1
    written, done = resident.until(CheckpointWritten), resident.until(Done)
    assert isinstance(expected, CheckpointWritten)
    assert isinstance(written, CheckpointWritten)
    assert isinstance(done, Done)
    assert (written.fence, written.sha256) == (10, expected.sha256)
    assert done.manifest["resumed"] == {"step": saved.step}


def test_a_pause_that_comes_before_the_first_step_leaves_nothing(
    resident: Child,
    base: Path,
    tmp_path: Path,
    write_rows: Callable[[Sequence[DatasetRow]], str],
    make_row: Callable[..., DatasetRow],
) -> None:
    waiting = command(base, write_rows([make_row(0)]), tmp_path / "out").model_copy(update={"job": 6})
    resident.send(PauseCommand(job=6, fence=9).line() + waiting.line())
    assert resident.event() == Paused(job=6, fence=9, step=0)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds a process's addresses, and from outside")
def test_where_memory_really_runs_out_it_goes_on_with_less(
    resident: Child,
    base: Path,
    tmp_path: Path,
    write_rows: Callable[[Sequence[DatasetRow]], str],
    make_row: Callable[..., DatasetRow],
) -> None:
    # No two of them begin alike, so that nothing is computed once for several.
    dataset = write_rows([make_row(i, answers=[f"turn left {i}"] * 8) for i in range(24)])
    config = {"steps": 1, "batch_episodes": 24, "lora": {"rank": 4, "alpha": 8}}
    resident.send(command(base, dataset, tmp_path / "warm", **config, token_budget=100).line())
    resident.until(Done)
    pages = int(Path(f"/proc/{resident.process.pid}/statm").read_text().split()[0])
    _, most = resource.prlimit(resident.process.pid, resource.RLIMIT_AS)
    room = pages * resource.getpagesize() + (64 << 20)
    resource.prlimit(resident.process.pid, resource.RLIMIT_AS, (room, most))
    try:
        resident.send(command(base, dataset, tmp_path / "out", **config, token_budget=100_000).line())
        done = resident.until(Done)
    finally:
        resource.prlimit(resident.process.pid, resource.RLIMIT_AS, (most, most))
    assert isinstance(done, Done)
    assert int(str(done.manifest["token_budget_shrunk"])) >= 1
    assert int(str(done.manifest["token_budget"])) < 5000


def test_sigterm_ends_a_training_at_a_step_boundary(
    child: Child,
    base: Path,
    tmp_path: Path,
    write_rows: Callable[[Sequence[DatasetRow]], str],
    make_row: Callable[..., DatasetRow],
) -> None:
    child.until(Ready)
    child.send(command(base, write_rows([make_row(0)]), tmp_path / "out", steps=100_000).line())
    child.until(Progress)
    child.process.send_signal(signal.SIGTERM)
    while not isinstance(event := child.event(), Failed):
        pass
    assert event.error == "ChildLost"
    assert child.wait() == 0
    assert not (tmp_path / "out").exists()


def test_the_second_child_of_a_device_waits_for_the_first(tmp_path: Path) -> None:
    held = lock_device(tmp_path, "cpu")
    with pytest.raises(StartError, match=f"cpu is in use by process {os.getpid()}"):
        lock_device(tmp_path, "cpu", seconds=0.2)
    threading.Timer(0.3, held.close).start()
    taken = lock_device(tmp_path, "cpu", seconds=60)
    with (tmp_path / "devices" / "cpu.lock").open("rb") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    taken.close()


def test_it_does_not_start_for_a_parent_that_is_gone(tmp_path: Path) -> None:
    orphan = Child(tmp_path, parent=1)
    assert orphan.wait() == 1
    assert orphan.process.stderr is not None
    assert b"parent 1 is gone" in orphan.process.stderr.read()
    orphan.close()


def test_it_does_not_start_open_in_production(tmp_path: Path) -> None:
    open_to_all = Child(tmp_path, RLFLEET_ENV="production", RLFLEET_ENGINE_KEY="")
    assert open_to_all.wait() == 1
    assert open_to_all.process.stderr is not None
    assert open_to_all.process.stderr.read().startswith(b"gpu.child: RLFLEET_ENGINE_KEY = '': set a bearer key")
    assert not (tmp_path / "devices").exists(), "it never asked for the device"
    open_to_all.close()


ORPHAN = """
import os, signal, sys
from pathlib import Path
from gpu.child import die_with, lock_device
assert "torch" not in sys.modules
die_with(int(sys.argv[2]))
held = lock_device(Path(sys.argv[1]), "cpu")
print(os.getpid(), flush=True)
signal.pause()
"""
PARENT = """
import os, subprocess, sys
subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2], str(os.getpid())])
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is Linux's")
def test_it_dies_with_its_parent_and_leaves_the_device(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, ORPHAN, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    assert parent.stdout is not None
    descriptor = os.pidfd_open(int(parent.stdout.readline()))
    with pytest.raises(StartError, match="in use"):
        lock_device(tmp_path, "cpu", seconds=0)
    parent.kill()
    parent.communicate()
    assert select.select([descriptor], [], [], 60)[0], "the child outlived its parent"
    os.close(descriptor)
    lock_device(tmp_path, "cpu", seconds=60).close()


def test_commands_come_in_order_and_pauses_at_once() -> None:
    read, write = os.pipe()
    commands = Commands(read)
    os.write(write, b"one\n" + PauseCommand(job=1, fence=2).line() + b"two\n")
    assert [commands.next(), commands.next()] == [b"one\n", b"two\n"]
    assert commands.pausing(1, 2), "it came before the second"
    assert not commands.pausing(1, 1)
    commands.finished(1, 2)
    assert not commands.pausing(1, 2)
    assert not commands.stopping
    os.close(write)
    assert commands.next() is None
    assert commands.stopping
    commands._file.close()
