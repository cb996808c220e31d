"""The resident child as a real process."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from gpu.child import lock_device
from rl.errors import StartError
from rl.protocol import (
    EVENTS,
    CheckpointWritten,
    DatasetRow,
    Done,
    Event,
    Failed,
    Progress,
    Ready,
    StopCommand,
    TrainCommand,
)

ROOT = Path(__file__).parents[2]
SFT: dict[str, object] = {"objective": "sft", "steps": 3, "optimizer": {"learning_rate": 1e-3}}


class Child:
    """One ``python -m gpu.child`` with its two pipes."""

    def __init__(self, state: Path, parent: int | None = None, **variables: str) -> None:
        commands_out, self.commands_in = os.pipe()
        events_out, events_in = os.pipe()
        arguments = ["--device", "cpu", "--state", state, "--commands-fd", commands_out, "--events-fd", events_in]
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

    def wait(self) -> int:
        return self.process.wait(30)

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


def command(base: Path, dataset: str, out: Path, **config: object) -> TrainCommand:
    return TrainCommand(job=5, fence=9, dataset=dataset, out=str(out), base=str(base), config={**SFT, **config})


def test_it_serves_while_it_trains_and_stops_cleanly(
    child: Child,
    base: Path,
    tmp_path: Path,
    write_rows: Callable[[Sequence[DatasetRow]], str],
    make_row: Callable[..., DatasetRow],
) -> None:
    dataset = write_rows([make_row(i) for i in range(8)])
    ready = child.until(Ready)
    assert isinstance(ready, Ready)
    assert (ready.pid, ready.device) == (child.process.pid, "cpu")
    with httpx.Client(base_url=ready.url, timeout=30) as client:
        client.post("/v1/load_lora_adapter", json={"lora_name": "v1", "lora_path": str(base)}).raise_for_status()
        child.send(command(base, dataset, tmp_path / "out", steps=60).line())
        child.until(Progress)
        body = {"model": "v1", "messages": [{"role": "user", "content": "x"}], "max_tokens": 3}
        assert client.post("/v1/chat/completions", json=body).json()["choices"][0]["token_ids"]
        progress = child.until(Progress)
        assert isinstance(progress, Progress)
        assert progress.step < 60, "the answer came while training went on"
    checkpoint, done = child.until(CheckpointWritten), child.until(Done)
    assert isinstance(checkpoint, CheckpointWritten)
    assert isinstance(done, Done)
    assert (checkpoint.job, checkpoint.fence, done.job, done.fence) == (5, 9, 5, 9)
    assert json.loads((Path(checkpoint.path) / "checkpoint.json").read_text())["sha256"] == checkpoint.sha256
    child.send(StopCommand().line())
    assert child.wait() == 0


def test_a_failed_command_is_reported_and_the_child_lives_on(child: Child, base: Path, tmp_path: Path) -> None:
    child.until(Ready)
    child.send(command(base, str(tmp_path / "none"), tmp_path / "out").line())
    failed = child.event()
    assert isinstance(failed, Failed)
    assert (failed.job, failed.fence, failed.error) == (5, 9, "InvalidInput")
    assert "no such file" in failed.message
    child.send(b'{"schema": 2, "command": "train"}\n')
    failed = child.event()
    assert isinstance(failed, Failed)
    assert (failed.job, failed.error) == (0, "InvalidInput")
    os.close(child.commands_in)
    assert child.wait() == 0


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
    with lock_device(tmp_path, "cpu", seconds=20) as taken:
        assert taken.fileno()
        with (tmp_path / "devices" / "cpu.lock").open("rb") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


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


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is Linux's")
def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    script = (
        "import os, sys, subprocess; r, w = os.pipe(); e, f = os.pipe();"
        "p = subprocess.Popen([sys.executable, '-m', 'gpu.child', '--device', 'cpu', '--state', sys.argv[1],"
        " '--commands-fd', str(r), '--events-fd', str(f), '--parent', str(os.getpid())], pass_fds=(r, f));"
        "os.read(e, 10); print(p.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    assert parent.stdout is not None
    assert parent.stdin is not None
    child = int(parent.stdout.readline())
    descriptor = os.pidfd_open(child)
    parent.kill()
    parent.communicate()
    import select

    assert select.select([descriptor], [], [], 20)[0], "the child outlived its parent"
    os.close(descriptor)
    with lock_device(tmp_path, "cpu", seconds=5):
        pass
