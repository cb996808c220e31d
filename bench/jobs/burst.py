"""A burst of jobs: the backlog stays in Postgres, the broker's queue short, and the worker's memory flat."""

from __future__ import annotations

import time
from typing import Any

from bench.faults.ground import Ground
from bench.jobs import meter
from bench.jobs.scoring import scoring
from db.workers import capacity
from tasks.ring import ring

SAMPLE_SECONDS = 0.25
END_SECONDS = 1800.0
GROWTH = 1.1
"""How much more memory a worker may have in the last quarter than in the second."""


def measure(ground: Ground, count: int) -> dict[str, Any]:
    """``count`` jobs are asked for before a worker of one process begins; sampled four times a second until the end.

    Memory is the resident memory of the worker and its pool process, medians over a quarter of the jobs.
    """
    ground.empty()
    line_id = meter.add_line("burst")
    began = time.monotonic()
    meter.ask(line_id, range(count))
    asked = time.monotonic()
    lengths, samples = [], []
    with scoring(ground) as worker:
        bound = 2 * capacity().get("score", 1)
        started = time.monotonic()
        ring()
        while waiting := meter.left(ground):
            lengths.append(int(ground.broker.llen("rlfleet:score")))
            samples.append((count - waiting, meter.tree_bytes(worker.main)))
            if time.monotonic() - started > END_SECONDS:
                raise TimeoutError(f"{waiting} jobs did not end within {END_SECONDS:.0f} s")
            time.sleep(SAMPLE_SECONDS)
        ended = time.monotonic()
    early, late = _median(samples, count // 4, count // 2), _median(samples, 3 * count // 4, count)
    return {
        "jobs": count,
        "asked_per_second": round(count / (asked - began)),
        "done_per_second": round(count / (ended - started), 1),
        "longest_queue": max(lengths),
        "bound": bound,
        "early_mib": round(early / 2**20, 1),
        "late_mib": round(late / 2**20, 1),
        "ok": max(lengths) <= bound and late <= GROWTH * early,
    }


def _median(samples: list[tuple[int, int]], first: int, last: int) -> float:
    """The middle one of the sizes that were seen while ``first`` to ``last`` jobs were done."""
    found = sorted(size for done, size in samples if first <= done <= last) or sorted(size for _, size in samples)
    return float(found[len(found) // 2])
