"""What a row is given: servers, workers, work, and how long things may take."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING

from bench.faults.ground import Ground
from bench.faults.work import Work
from bench.faults.workers import Workers

if TYPE_CHECKING:
    from bench.faults.hosts import Host
    from bench.faults.proxy import Proxy
    from bench.faults.raw import RawCelery, Setup

LEASE_SECONDS = 4.0
TICK_SECONDS = 1.0
SLACK_SECONDS = 15.0
"""What a recovery may take beyond lease and tick (I7): a machine that others use too may stand still for seconds."""
RESEND_SECONDS = 3.0
STEP_SECONDS = 0.25

ENVIRON = {
    "RLFLEET_CHILD": "bench.faults.child",
    "RLFLEET_LEASE_SECONDS": str(LEASE_SECONDS),
    "RLFLEET_TICK_SECONDS": str(TICK_SECONDS),
    "RLFLEET_RESEND_SECONDS": str(RESEND_SECONDS),
    "RLFLEET_STALL_SECONDS": "6",
    "RLFLEET_DRAIN_SECONDS": "5",
    "RLFLEET_SAVE_SECONDS": "0",
    "RLFLEET_STEP_SECONDS": str(STEP_SECONDS),
}
"""What all workers are told; a row may tell one of them something else."""
PATIENT = {"RLFLEET_LEASE_SECONDS": "60"}
"""What a worker is told that is to keep what it has claimed, though the machine stands still for seconds."""


class Bench:
    """One row's bench. Tables are empty and no message waits when a row begins; servers and workers may stand.

    ``rng`` is seeded by the harness's seed and the row's number, so that a row run alone is the same row.
    """

    lease_seconds = LEASE_SECONDS
    tick_seconds = TICK_SECONDS
    resend_seconds = RESEND_SECONDS
    step_seconds = STEP_SECONDS

    def __init__(
        self,
        ground: Ground,
        workers: Workers,
        *,
        row: int,
        seed: int,
        quick: bool = False,
        minutes: float | None = None,
    ) -> None:
        self.ground, self.workers = ground, workers
        self.work = Work(ground, row)
        self.row, self.seed, self.quick, self.minutes = row, seed, quick, minutes
        self.rng = random.Random(f"{seed}/{row}")
        self._cleanup = contextlib.ExitStack()

    @property
    def recovery_bound(self) -> float:
        """Seconds within which a lost holder is replaced (I7)."""
        return self.lease_seconds + self.tick_seconds + SLACK_SECONDS

    def proxy(self, url: str) -> Proxy:
        """A proxy in front of the server of that URL, closed after the row."""
        from bench.faults.proxy import Proxy

        return self._cleanup.enter_context(Proxy(url))

    def host(self, name: str) -> Host:
        """Another host, which reaches both servers of this one over a link; it and the link end with the row."""
        from bench.faults.hosts import NET, Host

        host = self._cleanup.enter_context(Host(name))
        self.ground.listen(host.near, NET)
        return host

    def raw(self, setup: Setup | None = None) -> RawCelery:
        """Raw Celery on the same servers, with a prefix and tables of its own; use it in a ``with`` block."""
        from bench.faults.raw import RawCelery

        return RawCelery(self.ground.redis_url, self.ground.database_url, self.ground.folder("raw"), setup)

    def close(self) -> None:
        """End what the row has opened."""
        self._cleanup.close()
