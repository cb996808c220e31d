"""How long a job waits for its next holder after its worker was killed."""

from __future__ import annotations

import math
import os
from typing import Any

from bench.faults.bench import ENVIRON, Bench
from bench.faults.ground import Ground, fleet_environ
from bench.faults.journal import VARIABLE
from bench.faults.workers import Workers

STEPS = 12


def measure(ground: Ground, kills: int, seed: int) -> dict[str, Any]:
    """Kill the whole worker of a training ``kills`` times, in mid-training; seconds to the next claim.

    The next claim comes from a second worker of the queue. The lease, the reconciler's tick and the back-off of a
    first attempt bound it.
    """
    environ = ENVIRON | {VARIABLE: str(ground.folder("journal") / "devices")}
    os.environ.update(fleet_environ(ground, environ))
    workers = Workers(ground, environ)
    found = []
    try:
        for number in range(kills):
            ground.empty()
            found.append(_one(Bench(ground, workers, row=number, seed=seed)))
    finally:
        workers.close()
    found.sort()
    bench = Bench(ground, workers, row=0, seed=seed)
    return {
        "kills": kills,
        "lease_seconds": bench.lease_seconds,
        "tick_seconds": bench.tick_seconds,
        "bound_seconds": bench.recovery_bound,
        "p50_seconds": quantile(found, 0.5),
        "p90_seconds": quantile(found, 0.9),
        "max_seconds": round(found[-1], 2),
        "ok": found[-1] <= bench.recovery_bound,
    }


def _one(bench: Bench) -> float:
    bench.workers.stand()
    hours = bench.work.line(steps=STEPS)
    bench.work.ask(hours)
    job = bench.work.in_training(hours)
    since = bench.ground.now()
    bench.workers.holder(job.owner or "").kill()
    seconds = bench.work.recovery(job.id, since)
    bench.work.wait_job(hours, lambda one: one.state == "succeeded", 30.0, "after the kill")
    return seconds


def quantile(ordered: list[float], share: float) -> float:
    """The smallest of them that at least ``share`` of them do not exceed."""
    return round(ordered[max(math.ceil(len(ordered) * share), 1) - 1], 2)
