"""Seeded random faults, several at once, while trainings on several lines go on."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import psutil

from bench.faults import invariants
from bench.faults.bench import Bench
from bench.faults.work import Hours

QUEUES = {
    "chaos-maint": "maint",
    "chaos-maint-2": "maint",
    "chaos-cpu": "collect,score",
    "chaos-gpu": "gpu",
    "chaos-gpu-2": "gpu",
}
LINES = 4
STEPS = 3
MAX_ATTEMPTS = 50
"""Far more than a job meets faults: none may end dead here."""
PAUSE_SECONDS = (0.3, 2.5)
LEFT_SECONDS = 120.0
"""When the faults are over, all jobs end within this."""


class Chaos:
    """One run: workers behind proxies of their own, faults drawn from the bench's seed, and what was done."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.rng = bench, bench.rng
        self.faults: Counter[str] = Counter()
        self.broker, self.database = bench.proxy(bench.ground.redis_url), bench.proxy(bench.ground.database_url)
        self.hours: list[Hours] = []
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._kinds: Mapping[str, tuple[int, Callable[[], None]]] = {
            "kill a worker": (3, self.kill_worker),
            "kill a pool process": (3, self.kill_pool),
            "kill a device's child": (3, self.kill_child),
            "stop a process for a while": (3, self.stop_process),
            "send messages again": (3, self.send_again),
            "restart Valkey empty": (1, self.restart_valkey),
            "strand connections to Valkey": (1, self.broker.strand),
            "freeze the network to Postgres": (1, self.freeze_database),
        }

    def run(self, seconds: float) -> dict[str, Any]:
        """Break things for so long, let go of everything, and wait for the end of all jobs.

        Raises:
            TimeoutError: a job did not end.
        """
        began = time.monotonic()
        self._begin()
        while time.monotonic() - began < seconds:
            self._one_fault()
            self._wait(self.rng.uniform(*PAUSE_SECONDS))
            self._ask_for_more()
        self._let_go()
        self._finish()
        journal = self.bench.ground.folder("journal") / "devices"
        found = invariants.check(self.bench.ground.rows, journal, None, 0, self.bench.work.requested)
        trainings = self.bench.work.jobs("train")
        return {
            "seconds": round(time.monotonic() - began, 1),
            "jobs": len(trainings),
            "effects": self.bench.work.effects(),
            "claims": sum(job.fence for job in self.bench.work.jobs()),
            "faults": dict(self.faults),
            "passed": not any(found.values()) and all(job.state == "succeeded" for job in trainings),
            "invariants": {name: not complaints for name, complaints in found.items()},
        }

    def kill_worker(self) -> None:
        """SIGKILL a whole worker, and start it again."""
        name = self.rng.choice(list(QUEUES))
        self.bench.workers[name].kill()
        self._start(name)

    def kill_pool(self) -> None:
        """SIGKILL a pool process; its worker starts another."""
        self._signal(self._below(self._any(), 1), signal.SIGKILL)

    def kill_child(self) -> None:
        """SIGKILL a device's child."""
        self._signal(self._below(self.rng.choice(["chaos-gpu", "chaos-gpu-2"]), 2), signal.SIGKILL)

    def stop_process(self) -> None:
        """SIGSTOP a process, often for longer than a lease, then SIGCONT."""
        process = self._below(self._any(), self.rng.choice([0, 1, 2]))
        self._signal(process, signal.SIGSTOP)
        self._after(self.rng.uniform(0.5, 2 * self.bench.lease_seconds), lambda: self._signal(process, signal.SIGCONT))

    def send_again(self) -> None:
        """Ring jobs in whatever state they are, several times each."""
        from worker.app import app

        jobs = self.bench.work.jobs()
        for job in self.rng.sample(jobs, min(5, len(jobs))):
            for _ in range(self.rng.randint(1, 3)):
                app.send_task(f"rlfleet.{job.kind}", (job.id,), expires=60)

    def restart_valkey(self) -> None:
        """SIGKILL Valkey, and start it without anything that it knew."""
        self.bench.ground.kill_valkey()
        self._wait(self.rng.uniform(0, 2))
        self.bench.ground.start_valkey(empty=True)

    def freeze_database(self) -> None:
        """No worker reaches Postgres, for up to about two leases."""
        self.database.freeze()
        self._after(self.rng.uniform(0.5, 2 * self.bench.lease_seconds), self.database.thaw)

    def _begin(self) -> None:
        self.bench.workers.settle(all_anew=False)
        self.bench.workers.stop("maint", "collect", "score", "gpu0", "gpu1")
        for name in QUEUES:
            self._start(name)
        self.bench.workers.ready(*(self.bench.workers[name] for name in QUEUES))
        self._ask_for_more()

    def _start(self, name: str) -> None:
        through = {"REDIS_URL": self.broker.url, "DATABASE_URL": self.database.url}
        self.bench.workers.start(name, QUEUES[name], through)

    def _ask_for_more(self) -> None:
        """Keep some trainings waiting on every line."""
        open_now = sum(job.state in ("queued", "running") for job in self.bench.work.jobs("train"))
        if open_now < LINES:
            for hours in self.bench.work.lines(LINES, steps=STEPS):
                self.bench.work.accept(hours)
                self.hours.append(hours)
        self.bench.ground.do("update rlfleet.jobs set max_attempts = :most", most=MAX_ATTEMPTS)

    def _one_fault(self) -> None:
        names = list(self._kinds)
        name = self.rng.choices(names, weights=[self._kinds[one][0] for one in names])[0]
        self._kinds[name][1]()
        self.faults[name] += 1

    def _finish(self) -> None:
        """Everything works again; back-offs that grew with the faults are not waited for."""
        for name in QUEUES:
            if not self.bench.workers[name].alive:
                self._start(name)
        deadline = time.monotonic() + LEFT_SECONDS
        while True:
            self.bench.ground.do("update rlfleet.jobs set run_at = least(run_at, now()) where state = 'queued'")
            try:
                self.bench.work.wait_all(5)
                return
            except TimeoutError:
                if time.monotonic() > deadline:
                    raise

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + seconds, act))

    def _wait(self, seconds: float) -> None:
        """Wait, and do what is due meanwhile."""
        deadline = time.monotonic() + seconds
        while (now := time.monotonic()) < deadline:
            due = [act for at, act in self._later if at <= now]
            self._later = [one for one in self._later if one[0] > now]
            for act in due:
                act()
            time.sleep(0.05)

    def _let_go(self) -> None:
        for _, act in self._later:
            act()
        self._later.clear()

    def _any(self) -> str:
        return self.rng.choice(list(QUEUES))

    def _below(self, name: str, depth: int) -> psutil.Process | None:
        """A worker's main process, its pool process, or what that started; None when there is none now."""
        with contextlib.suppress(psutil.Error):
            process = self.bench.workers[name].main
            for _ in range(depth):
                process = process.children()[0] if process.children() else process
            return process
        return None

    def _signal(self, process: psutil.Process | None, number: signal.Signals) -> None:
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if process is not None and process.is_running():
                os.kill(process.pid, number)
