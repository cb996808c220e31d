"""Real Celery workers, started with the words of `rlfleet up`, and the signals that break them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import psutil

from bench.faults.expect import wait_until
from bench.faults.ground import Ground, fleet_environ
from fleet.process import Child, Process
from fleet.processes import Plan, processes

if TYPE_CHECKING:
    from bench.faults.hosts import Host

START_SECONDS = 45.0
END_SECONDS = 20.0
STANDING = ("collect", "score", "maint", "gpu0", "gpu1")
"""The workers that most rows begin with: one per queue, and two devices."""


class Worker:
    """One worker: its main process, the pool process that carries tasks out, and the device's child below that."""

    def __init__(self, name: str, child: Child) -> None:
        self.name = name
        self._child = child
        self._offset = 0

    def start(self) -> None:
        """Start it; ``wait_ready`` waits."""
        self._offset = self._child.log.stat().st_size if self._child.log.exists() else 0
        self._child.start()

    def wait_ready(self) -> None:
        """Until it consumes.

        Raises:
            TimeoutError: it does not; its log says why.
        """
        wait_until(lambda: f"{self.name}@" in self.log and " ready." in self.log, START_SECONDS, f"start of {self}")

    def __str__(self) -> str:
        return f"worker {self.name} (log {self._child.log})"

    @property
    def log(self) -> str:
        """What it has said since it was started."""
        with self._child.log.open("rb") as stream:
            stream.seek(self._offset)
            return stream.read().decode(errors="replace")

    @property
    def alive(self) -> bool:
        """Whether the main process runs."""
        return self._child.status.pid is not None and self._child.ended() is None

    @property
    def main(self) -> psutil.Process:
        """The main process.

        Raises:
            psutil.NoSuchProcess: it has ended.
        """
        pid = self._child.status.pid
        if pid is None:  # which psutil takes for this process
            raise psutil.NoSuchProcess(0, msg=f"{self} has ended")
        return psutil.Process(pid)

    def pool(self) -> psutil.Process:
        """The pool process, which supervises the device's child; waited for while it is replaced."""
        return wait_until(lambda: _first(self.main.children()), END_SECONDS, f"pool process of {self}")

    def trainer(self) -> psutil.Process:
        """The device's child; waited for while it is replaced."""
        return wait_until(self._trainer, END_SECONDS, f"device's child of {self}")

    def _trainer(self) -> psutil.Process | None:
        with contextlib.suppress(psutil.NoSuchProcess):
            return _first(_first(self.main.children()).children())  # type: ignore[union-attr]
        return None

    def everything(self) -> list[psutil.Process]:
        """The main process and all below it."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return [self.main, *self.main.children(recursive=True)]
        return []

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the main process, as an operator does."""
        self.main.send_signal(number)

    def kill(self) -> None:
        """SIGKILL all of it at once, as the end of a container or of a machine does."""
        for process in reversed(self.everything()):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.wait_end()

    def wait_end(self, seconds: float = END_SECONDS) -> int:
        """The exit status of the main process, once it has ended: -N for signal N."""
        status: list[int] = []

        def ended() -> bool:
            if (code := self._child.ended()) is not None:
                status.append(code)
            return bool(status) or self._child.status.pid is None

        wait_until(ended, seconds, f"end of {self}")
        return status[0] if status else 0


class Workers:
    """Every worker that was started, by name. A row takes what it needs; ``settle`` puts the rest right after it."""

    def __init__(self, ground: Ground, environ: Mapping[str, str]) -> None:
        self._ground, self._environ = ground, dict(environ)
        self._running: dict[str, Worker] = {}

    def __getitem__(self, name: str) -> Worker:
        return self._running[name]

    def start(
        self,
        name: str,
        queue: str,
        env: Mapping[str, str] | None = None,
        *,
        app: str = "worker.app",
        host: Host | None = None,
    ) -> Worker:
        """Start a worker of one queue, or of several separated by commas; it may not consume yet on return.

        On the ``gpu`` queue it owns a device of its name. ``env`` is told to it and to its child besides the rest.
        ``app`` is the module of its Celery app. It runs on this host, or on ``host``.
        """
        if name in self._running and self._running[name].alive:
            raise ValueError(f"worker {name} runs already; stop it first")
        device = {"RLFLEET_DEVICE": f"fake-{name}"} if "gpu" in queue.split(",") else {}
        environ = fleet_environ(
            self._ground, self._environ | (host.environ(self._ground) if host else {}) | device | dict(env or {})
        )
        process = _process(name, queue, app, environ, self._ground, host.enter if host else ())
        worker = Worker(name, Child(process, self._ground.home, self._ground.watchdog))
        self._running[name] = worker
        worker.start()
        return worker

    def ready(self, *started: Worker) -> None:
        """Wait until all of them consume."""
        for worker in started:
            worker.wait_ready()

    def stand(self, names: Iterable[str] = STANDING) -> None:
        """See that these workers of the standing set run, and consume."""
        missing = [name for name in names if name not in self._running or not self._running[name].alive]
        self.ready(*[self.start(name, name.rstrip("0123456789")) for name in missing])

    def stop(self, *names: str) -> None:
        """End these workers at once."""
        for name in names:
            if name in self._running:
                self._running.pop(name).kill()

    def holder(self, owner: str) -> Worker:
        """The worker whose pool process ``owner`` (``host:pid``, as on a job's row) names.

        Raises:
            LookupError: none of ours is it.
        """
        pid = int(owner.rpartition(":")[2])
        for worker in self._running.values():
            if any(process.pid == pid for process in worker.everything()):
                return worker
        raise LookupError(f"no worker has process {pid}")

    def settle(self, *, all_anew: bool) -> None:
        """End what is not of the standing set, let stopped processes go on; ``all_anew`` ends every worker."""
        for name in list(self._running):
            if all_anew or name not in STANDING:
                self.stop(name)
        for worker in self._running.values():
            for process in worker.everything():
                _let_go_on(process)

    def close(self) -> None:
        """End all of them."""
        self.stop(*self._running)


def _process(
    name: str, queue: str, app: str, environ: Mapping[str, str], ground: Ground, enter: Sequence[str]
) -> Process:
    """As the fleet starts it, with another name, queue and environment, and in a folder without our packages.

    ``enter`` are the words that take it to its host.
    """
    plan = Plan(environ, ("cpu",), "http://127.0.0.1:9", "http://127.0.0.1:9", ground.home.path)
    usual = next(one for one in processes(plan) if one.name == f"worker-{_like(queue)}")
    words = list(usual.argv)
    words[words.index("-n") + 1] = f"{name}@%h"
    words[words.index("-Q") + 1] = queue
    words[words.index("-A") + 1] = app
    env: dict[str, Any] = dict(usual.env) | {"RLFLEET_DEVICE": environ.get("RLFLEET_DEVICE", "")}
    return dataclasses.replace(
        usual,
        name=f"worker-{name}",
        argv=[*enter, *words],
        env=env,
        cwd=ground.folder("cwd"),
        stop_signal=signal.SIGKILL,
        stop_timeout=5.0,
    )


def _like(queue: str) -> str:
    """The name of the fleet's own worker for the first of the queues."""
    first = queue.split(",", maxsplit=1)[0]
    return "gpu0" if first == "gpu" else first


def _first(found: list[psutil.Process]) -> psutil.Process | None:
    alive = [one for one in found if one.status() != psutil.STATUS_ZOMBIE]
    return alive[0] if alive else None


def _let_go_on(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        if process.status() == psutil.STATUS_STOPPED:
            os.kill(process.pid, signal.SIGCONT)
