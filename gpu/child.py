"""The resident child of a device: it owns the device's lock, serves, and trains on command.

``python -m gpu.child --device cpu --state DIR --commands-fd N --events-fd M --parent PID`` reads commands
and writes events of ``rl.protocol``, one JSON object a line. It dies with its parent, waits for an orphan
that still holds the device, and imports torch only once the device is its own. A command that fails is
reported and the child lives on; a stop command, a closed command descriptor and SIGTERM end it with exit
code 0 at the next step boundary. A pause command makes the running one save its state there, and the child waits on.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gpu.locks import lock_device
from gpu.settings import checked
from rl.errors import InvalidInput, PermanentError, RlfleetError, StartError
from rl.protocol import (
    COMMANDS,
    BackendName,
    Command,
    Event,
    Failed,
    PauseCommand,
    Ready,
    StopCommand,
    TrainCommand,
)

if TYPE_CHECKING:
    from gpu.policy import Policy

    Train = Callable[[TrainCommand, Policy, Callable[[Event], None], Callable[[], bool], Callable[[], bool]], None]

__all__ = ["Commands", "Events", "die_with", "lock_device", "main"]

PR_SET_PDEATHSIG = 1
ORPHAN_TICK_SECONDS = 1.0


def main() -> None:
    """The command line."""
    args = _arguments()
    die_with(args.parent)
    try:
        here = checked()  # at once: waiting for the device and importing torch take a while
        held = lock_device(args.state, args.device)
    except StartError as error:
        sys.exit(f"gpu.child: {error}")
    os.environ.setdefault("OMP_NUM_THREADS", str(here.torch_threads))
    commands = Commands(args.commands_fd)
    signal.signal(signal.SIGTERM, lambda number, frame: commands.stop())
    serve(args.device, here.torch_threads, commands, Events(args.events_fd))
    held.close()
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of torch and of the server may still hold what interpreter shutdown tears down.
    os._exit(0)


def die_with(parent: int) -> None:
    """Arrange to be killed when the parent dies; exits at once if it is dead already."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise StartError(f"prctl(PR_SET_PDEATHSIG) failed: {os.strerror(ctypes.get_errno())}")
    else:
        threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        sys.exit(f"gpu.child: parent {parent} is gone")


class Commands:
    """Commands as they come in; also knows, while one is carried out, that it is to pause or the child to stop."""

    def __init__(self, descriptor: int) -> None:
        self._file = os.fdopen(descriptor, "rb")
        # SimpleQueue, because a signal handler may put while the same thread waits in get.
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._pauses: set[tuple[int, int]] = set()
        threading.Thread(target=self._read, name="commands", daemon=True).start()

    @property
    def stopping(self) -> bool:
        """Whether a stop command, the end of the commands, or SIGTERM has come."""
        return self._stopping.is_set()

    def pausing(self, job: int, fence: int) -> bool:
        """Whether a pause of that very command has come."""
        return (job, fence) in self._pauses

    def finished(self, job: int, fence: int) -> None:
        """Forget a pause of a command that is over."""
        self._pauses.discard((job, fence))

    def stop(self) -> None:
        """End after what is running."""
        self._stopping.set()
        self._queue.put(None)

    def next(self) -> bytes | None:
        """The next line; None when it is time to stop."""
        line = self._queue.get()
        return None if self.stopping else line

    def _read(self) -> None:
        for line in self._file:
            command = _understood(line)
            if isinstance(command, StopCommand):
                break
            if isinstance(command, PauseCommand):
                self._pauses.add((command.job, command.fence))
            else:
                self._queue.put(line)
        self.stop()


class Events:
    """Events as whole lines, from any thread."""

    def __init__(self, descriptor: int) -> None:
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        self._lock = threading.Lock()

    def emit(self, event: Event) -> None:
        """Write one line; a closed descriptor is an error, because nobody would learn what became of the job."""
        with self._lock:
            line = memoryview(event.line())
            while line:
                line = line[self._file.write(line) :]


def serve(device: str, threads: int, commands: Commands, events: Events) -> None:
    """Serve on a loopback port and carry out commands until told to stop."""
    import torch
    from transformers.utils.logging import disable_progress_bar

    from gpu.device import torch_devices
    from gpu.engine import EngineServer
    from gpu.policy import Policy

    torch.set_num_threads(threads)
    disable_progress_bar()  # type: ignore[no-untyped-call]
    devices = torch_devices(device)
    policy = Policy(devices[0], devices=devices)
    server = EngineServer(policy)
    events.emit(Ready(pid=os.getpid(), device=device, url=server.start()))
    while (line := commands.next()) is not None:
        carry_out(line, policy, commands, events)
    server.stop()


def carry_out(line: bytes, policy: Policy, commands: Commands, events: Events) -> None:
    """Run one command; what it raises becomes a ``Failed`` event."""
    job = fence = 0
    try:
        command = _parse(line)
        job, fence = command.job, command.fence
        _trainer(command.backend)(
            command, policy, events.emit, lambda: commands.stopping, lambda: commands.pausing(job, fence)
        )
    except RlfleetError as error:
        events.emit(Failed(job=job, fence=fence, error=type(error).__name__, message=str(error)))
    except Exception as error:
        if type(error).__name__ in ("AcceleratorError", "BrokenPipeError"):
            raise  # a broken device cannot be used again, and a closed descriptor has nobody behind it
        traceback.print_exc()
        message = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"  # the next lines may quote the data
        events.emit(Failed(job=job, fence=fence, error=PermanentError.__name__, message=message))
    finally:
        commands.finished(job, fence)


def _trainer(backend: BackendName) -> Train:
    """What carries out a train command; TRL is imported for a command that asks for it."""
    if backend == "local":
        from gpu.trainer import train

        return train
    try:
        from gpu.trl_trainer import train as train_with_trl
    except ModuleNotFoundError as error:
        raise InvalidInput(
            "backend", backend, f"{error.name} is not installed on this machine; install rlfleet[gpu,trl]"
        ) from error
    return train_with_trl


def _parse(line: bytes) -> TrainCommand:
    try:
        command = COMMANDS.validate_json(line)
    except ValueError as error:
        raise InvalidInput("command", line[:80], f"not a command of this schema: {error}") from error
    assert isinstance(command, TrainCommand)  # noqa: S101
    return command


def _understood(line: bytes) -> Command | None:
    """The command of a line; None for one that ``carry_out`` will refuse."""
    try:
        return COMMANDS.validate_json(line)
    except ValueError:
        return None


def _watch_parent(parent: int) -> None:
    """Where the kernel cannot do it: die when the parent is gone."""
    while os.getppid() == parent:
        time.sleep(ORPHAN_TICK_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m gpu.child", description=__doc__)
    parser.add_argument("--device", required=True, help="cpu, a CUDA device such as cuda:0, or several joined with +")
    parser.add_argument("--state", type=Path, required=True, help="folder of the fleet's state")
    parser.add_argument("--commands-fd", type=int, required=True)
    parser.add_argument("--events-fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True, help="process that must stay alive")
    return parser.parse_args()


if __name__ == "__main__":
    main()
