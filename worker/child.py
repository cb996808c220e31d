"""The resident child of a device: it holds the weights, serves, and trains; this side supervises it.

Commands and events are JSON lines on two descriptors of their own. The child is started from the main thread,
because Linux kills it (PDEATHSIG) when the thread that started it ends. It owns the device by a file lock, so an
orphan and its successor never share one. What breaks without the child: torch in a Celery process would make
every worker heavy, and one CUDA fault would take the worker, its heartbeat and its queue down with it.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import ValidationError

from rl.errors import ChildLost, OutOfMemory, RlfleetError, StartError
from rl.protocol import EVENTS, Done, Event, Failed, Line, PauseCommand, Paused, Ready, TrainCommand
from worker.memory import kills_for_memory

START_SECONDS = 120.0
TICK_SECONDS = 1.0
EXIT_SECONDS = 5.0


class Child:
    """One child process of one device. Not thread-safe: one task at a time talks to it."""

    def __init__(self, device: str, state: Path, module: str = "gpu.child") -> None:
        self.device, self.state, self.module = device, state, module
        self.ready: Ready | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._commands = self._events = -1
        self._buffer = b""
        self._kills_before: int | None = None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process if it does not run. Returns at once; ``wait_ready`` waits.

        Raises:
            StartError: this is not the main thread; the child would die with it.
        """
        if self.alive:
            return
        if threading.current_thread() is not threading.main_thread():
            raise StartError(f"the child of {self.device} must be started from the main thread: it dies with any other")
        self._close()
        (self.state / "logs").mkdir(parents=True, exist_ok=True)
        command_read, self._commands = os.pipe()
        self._events, event_write = os.pipe()
        self._kills_before = kills_for_memory()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._argv, "--commands-fd", str(command_read), "--events-fd", str(event_write)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(command_read, event_write),
                start_new_session=True,
            )
        os.close(command_read)
        os.close(event_write)

    def wait_ready(self, tick: Callable[[], object] = lambda: None) -> Ready:
        """The child's address, once it owns its device and serves; starts it if need be.

        ``tick`` is called about once a second while it loads; what it raises ends the wait, not the child.

        Raises:
            ChildLost: it exited, or was not ready in time; its log says why.
        """
        self.start()
        deadline = time.monotonic() + START_SECONDS
        while self.ready is None:
            if time.monotonic() > deadline:
                self.kill()
                raise ChildLost(
                    f"the child of {self.device} was not ready within {START_SECONDS:.0f} s; see {self.log}"
                )
            event = self._next(TICK_SECONDS)
            if isinstance(event, Ready):
                self.ready = event
            tick()
        return self.ready

    def train(self, command: TrainCommand) -> Iterator[Event | None]:
        """Send the command and yield its events until its last; None about once a second in between.

        The last one is ``Done``, ``Failed`` or ``Paused``.

        Raises:
            ChildLost: the process died.
            OutOfMemory: the kernel killed it because memory ran out.
        """
        self.wait_ready()
        self._send(command)
        while True:
            event = self._next(TICK_SECONDS)
            if not _belongs_to(event, command):
                event = None  # left over from a command that this worker gave up on; the caller beats all the same
            yield event
            if isinstance(event, Done | Failed | Paused):
                return

    def pause(self, command: TrainCommand) -> None:
        """Have it save the state of ``command`` at the next step; ``train`` then yields ``Paused``."""
        self._send(PauseCommand(job=command.job, fence=command.fence))

    def kill(self) -> None:
        """Kill the process and everything it started. The next use starts a new one."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._close()

    def stop(self, timeout: float = 10.0) -> None:
        """Ask the process to exit, and kill it when it does not."""
        if self._process is None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        self.kill()

    @property
    def log(self) -> Path:
        """Where the child's output goes."""
        return self.state / "logs" / f"child-{self.device}.log"

    @property
    def _argv(self) -> list[str]:
        words = ["--device", self.device, "--state", str(self.state), "--parent", str(os.getpid())]
        return [sys.executable, "-m", self.module, *words]

    def _send(self, line: Line) -> None:
        try:
            os.write(self._commands, line.line())
        except OSError as error:
            raise ChildLost(f"the child of {self.device} does not read commands ({error}); see {self.log}") from error

    def _next(self, timeout: float) -> Event | None:
        if b"\n" not in self._buffer:
            with selectors.DefaultSelector() as selector:
                selector.register(self._events, selectors.EVENT_READ)
                if not selector.select(timeout):
                    return None
            chunk = os.read(self._events, 1 << 16)
            if not chunk:
                raise self._lost()
            self._buffer += chunk
            if b"\n" not in self._buffer:
                return None
        line, self._buffer = self._buffer.split(b"\n", 1)
        try:
            return EVENTS.validate_json(line)
        except ValidationError as error:
            self.kill()
            raise ChildLost(f"the child of {self.device} said {line[:200]!r}, which is not an event") from error

    def _lost(self) -> RlfleetError:
        """What became of a child that will say nothing more; it is gone afterwards."""
        code = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(EXIT_SECONDS) if self._process else None
        before, after = self._kills_before, kills_for_memory()
        self.kill()
        if code == -signal.SIGKILL and before is not None and after is not None and after > before:
            return OutOfMemory(f"the kernel killed the child of {self.device} because the machine's memory ran out")
        ended = "closed its events" if code is None else f"exited with {code}"
        return ChildLost(f"the child of {self.device} {ended}; see {self.log}")

    def _close(self) -> None:
        for descriptor in (self._commands, self._events):
            if descriptor >= 0:
                os.close(descriptor)
        self._commands = self._events = -1
        self._process, self.ready, self._buffer = None, None, b""


def _belongs_to(event: Event | None, command: TrainCommand) -> bool:
    if event is None or isinstance(event, Ready):
        return True
    return (event.job, event.fence) == (command.job, command.fence)


_resident: Child | None = None


def resident() -> Child:
    """The child of this process's device (``RLFLEET_DEVICE``), made on first use."""
    global _resident  # noqa: PLW0603 - one device, one child, for the life of the process
    if _resident is None:
        from worker.settings import settings

        here = settings()
        _resident = Child(here.device or "cpu", here.state.resolve(), here.child)
    return _resident
