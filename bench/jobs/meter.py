"""CPU seconds of process trees, and the rows that the benchmarks work on."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

from bench.faults.ground import Ground
from bench.faults.workers import Worker
from bench.jobs.noop import QUEUE
from db import dispatch, lines
from db.session import transaction
from rl.config import LineConfig


@dataclass(frozen=True)
class Cpu:
    """CPU seconds, user and system together, of everybody who takes part in a job."""

    sender: float
    worker: float
    postgres: float
    broker: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.sender + self.worker + self.postgres + self.broker

    @property
    def celery_side(self) -> float:
        """What sender and worker take."""
        return self.sender + self.worker

    def __sub__(self, other: Cpu) -> Cpu:
        return Cpu(
            self.sender - other.sender,
            self.worker - other.worker,
            self.postgres - other.postgres,
            self.broker - other.broker,
        )

    def each(self, count: int) -> dict[str, float]:
        """Milliseconds for each of ``count`` tasks."""
        parts = {**vars(self), "sender_and_worker": self.celery_side, "all": self.total}
        return {name: round(1000 * seconds / count, 3) for name, seconds in parts.items()}


class Meter:
    """Reads the CPU seconds of this process as the sender, of a worker, of Postgres and of Valkey."""

    def __init__(self, ground: Ground, worker: Worker) -> None:
        self._worker = worker.main
        backend = psutil.Process(int(ground.one("select pg_backend_pid()")[0]))
        postmaster = backend.parent()
        if postmaster is None:
            raise psutil.NoSuchProcess(backend.pid, msg="the postmaster has ended")
        self._postgres = postmaster
        self._broker = psutil.Process(int(ground.broker.info("server")["process_id"]))

    def read(self) -> Cpu:
        """What each has used since it was started."""
        return Cpu(time.process_time(), tree_seconds(self._worker), tree_seconds(self._postgres), _own(self._broker))


def tree_seconds(root: psutil.Process) -> float:
    """CPU seconds of a process and of all below it, those included that have ended and were waited for."""
    total = 0.0
    for process in [root, *root.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def tree_bytes(root: psutil.Process) -> int:
    """Resident memory of a process and of all below it. Pages that they share count for each."""
    return sum(process.memory_info().rss for process in [root, *root.children(recursive=True)])


def _own(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def add_line(name: str) -> int:
    """A line on which nothing happens by itself."""
    with transaction() as session:
        return lines.put(session, name, LineConfig(base_model="no-model", automatic=False))


def ask(line_id: int, numbers: Iterable[int]) -> list[int]:
    """One job a number, each in a transaction of its own: work that is none."""
    made = []
    for number in numbers:
        with transaction() as session:
            spec = dispatch.Spec("noop", line_id, {"number": number}, {}, QUEUE)
            made.append(dispatch.request(session, spec))
    return made


def left(ground: Ground) -> int:
    """How many jobs have not ended."""
    return int(ground.one("select count(*) from rlfleet.jobs where state in ('queued', 'running')")[0])
