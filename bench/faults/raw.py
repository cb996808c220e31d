"""Raw Celery under the same faults: start its workers, send tasks, break them, and count effects for each task."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import psutil
from kombu import pools
from redis import Redis

from bench.faults import raw_app
from fleet.spawn import spawn
from fleet.watchdog import kill_group
from rl.errors import StartError

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS = 60.0
TICK_SECONDS = 0.1

Part = Literal["pool", "main", "group"]


@dataclass(frozen=True)
class Setup:
    """How raw Celery is set up. The default is late acknowledgement as recommended, with a short redelivery.

    ``reject`` is ``task_reject_on_worker_lost``; ``sweep_seconds`` is how often unacknowledged messages are looked
    through, 0 for the transport's own cadence of about 100 s.
    """

    late: bool = True
    reject: bool = False
    visibility_seconds: int = 5
    sweep_seconds: int = 1


class RawCelery:
    """Workers of the raw app on the given servers; its tables are made anew, and its keys are removed at the end.

    A worker's name is also its log's: ``<folder>/<name>.log``. Use it from the main thread.
    """

    def __init__(self, redis_url: str, database_url: str, folder: Path, setup: Setup | None = None) -> None:
        self.redis_url, self.database_url, self.folder = redis_url, database_url, folder
        self.setup = setup or Setup()
        self._workers: dict[str, int] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._tables()
        self._forget_messages()
        raw_app.configure(redis_url, **asdict(self.setup))
        raw_app.app._pool = raw_app.app.amqp._producer_pool = None
        pools.reset()  # type: ignore[no-untyped-call]

    def start(self, *names: str, redis_url: str | None = None) -> None:
        """Start workers and wait until each consumes; ``redis_url`` may lead through a proxy.

        Raises:
            StartError: one did not start in time.
        """
        for name in names:
            words = ["worker", "-n", f"{name}@%h", "-c", "1", "--without-mingle", "--without-gossip", "-l", "INFO"]
            log = self.folder / f"{name}.log"
            log.unlink(missing_ok=True)
            argv = [sys.executable, "-m", "celery", "-A", "bench.faults.raw_app", *words]
            environ = self._environ(redis_url or self.redis_url)
            self._workers[name] = spawn(argv, env=environ, log=log, death_signal=signal.SIGKILL, cwd=self.folder).pid
        for name in names:
            self._await_ready(name)

    def send(self, jobs: int, seconds: float = 2.0, *, poison: bool = False, first: int = 1) -> None:
        """Send tasks ``first`` .. ``first + jobs - 1``, which take ``seconds`` each."""
        for job in range(first, first + jobs):
            raw_app.work.apply_async((job, seconds, poison))

    def kill(self, name: str, part: Part = "group", number: signal.Signals = signal.SIGKILL) -> None:
        """Signal a worker's pool process, its main process alone, or all of it."""
        main = self._workers[name]
        if part == "pool":
            for child in psutil.Process(main).children():
                child.send_signal(number)
        elif part == "main":
            os.kill(main, number)
        else:
            os.killpg(main, number)

    def starts(self) -> dict[int, int]:
        """How often each task was started, by its number."""
        return self._counts("starts")

    def effects(self) -> dict[int, int]:
        """How many effects each task has, by its number; one that has none is not named."""
        return self._counts("effects")

    def until(self, condition: Callable[[], object], seconds: float) -> float | None:
        """Wait for the condition; the seconds that took, or None when it was not met in time."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            if condition():
                return time.monotonic() - began
            time.sleep(TICK_SECONDS)
        return None

    def until_done(self, jobs: int, seconds: float) -> float | None:
        """Wait until ``jobs`` tasks have an effect; the seconds that took, or None."""
        return self.until(lambda: len(self.effects()) >= jobs, seconds)

    def waiting(self) -> int:
        """Messages that wait or are not acknowledged."""
        with Redis.from_url(self.redis_url) as client:
            return int(client.llen(f"{raw_app.PREFIX}celery")) + int(client.hlen(f"{raw_app.PREFIX}unacked"))

    def stop(self) -> None:
        """Kill the workers and remove their messages."""
        for main in self._workers.values():
            kill_group(main)
            _reap(main)
        self._workers.clear()
        self._forget_messages()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _await_ready(self, name: str) -> None:
        log = self.folder / f"{name}.log"
        if self.until(lambda: " ready." in log.read_text(errors="replace"), READY_SECONDS) is None:
            raise StartError(f"the raw worker {name} was not ready within {READY_SECONDS:.0f} s; see {log}")

    def _environ(self, redis_url: str) -> Mapping[str, str]:
        return dict(os.environ) | {
            "PYTHONPATH": str(ROOT),
            "REDIS_URL": redis_url,
            "DATABASE_URL": self.database_url,
            "RLFLEET_RAW": json.dumps(asdict(self.setup)),
            "PYTHONUNBUFFERED": "1",
        }

    def _tables(self) -> None:
        self._execute("""
            create schema if not exists raw;
            create table if not exists raw.starts (job int not null, pid int not null, at timestamptz default now());
            create table if not exists raw.effects (job int not null, pid int not null, at timestamptz default now());
            truncate raw.starts, raw.effects;
        """)

    def _counts(self, table: str) -> dict[int, int]:
        rows = self._execute(f"select job, count(*) from raw.{table} group by job")  # noqa: S608
        return {int(job): int(count) for job, count in rows}

    def _execute(self, statement: str) -> list[tuple[Any, ...]]:
        import psycopg2

        connection = psycopg2.connect("postgresql://" + self.database_url.split("://", 1)[1])
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def _forget_messages(self) -> None:
        with Redis.from_url(self.redis_url) as client:
            for key in client.scan_iter(f"{raw_app.PREFIX}*"):
                client.delete(key)


def _reap(pid: int) -> None:
    """Take note that a child of ours has ended."""
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return
