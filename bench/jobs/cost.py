"""CPU of a job, from its request to its commit, beside a bare message on the same worker and servers.

Both kinds take turns, so that whatever else the machine does meets both. A pair's ratio compares neighbours in time;
the median over pairs is what counts.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from bench.faults.expect import wait_until
from bench.faults.ground import Ground
from bench.jobs import meter
from bench.jobs.noop import noop
from bench.jobs.scoring import scoring
from tasks.ring import ring

GOAL = 2.5
"""Sender, worker, Postgres and Valkey together, for one of our jobs, in units of what a bare message takes."""
END_SECONDS = 120.0


def measure(ground: Ground, pairs: int, count: int) -> dict[str, Any]:
    """``pairs`` of ``count`` bare messages and ``count`` jobs, after one pair that is not counted.

    Milliseconds of CPU for each task by who used them, and ratios of the two, medians over the pairs.
    """
    ground.empty()
    line_id = meter.add_line("cost")
    found: list[tuple[meter.Cpu, meter.Cpu]] = []
    with scoring(ground) as worker:
        read = meter.Meter(ground, worker).read
        for number in range(pairs + 1):
            before = read()
            _bare(ground, count)
            between = read()
            _ours(ground, line_id, number, count)
            found.append((between - before, read() - between))
    return _summary(found[1:], count)


def _bare(ground: Ground, count: int) -> None:
    for number in range(count):
        noop.apply_async((number,), queue="score")
    wait_until(lambda: not ground.broker.llen("rlfleet:score"), END_SECONDS, "the bare messages")
    time.sleep(0.1)  # the last one was taken, and is being carried out


def _ours(ground: Ground, line_id: int, number: int, count: int) -> None:
    meter.ask(line_id, range(number * count, (number + 1) * count))
    ring()
    deadline = time.monotonic() + END_SECONDS
    while meter.left(ground):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{meter.left(ground)} jobs did not end within {END_SECONDS:.0f} s")
        time.sleep(0.5)


def _summary(pairs: list[tuple[meter.Cpu, meter.Cpu]], count: int) -> dict[str, Any]:
    ratios = [ours.total / bare.total for bare, ours in pairs]
    without_postgres = [ours.celery_side / bare.celery_side for bare, ours in pairs]
    ratio = statistics.median(ratios)
    return {
        "pairs": len(pairs),
        "tasks": count,
        "bare_ms": _medians([bare.each(count) for bare, _ in pairs]),
        "ours_ms": _medians([ours.each(count) for _, ours in pairs]),
        "ratio": round(ratio, 2),
        "ratios": [round(one, 2) for one in ratios],
        "ratio_sender_and_worker": round(statistics.median(without_postgres), 2),
        "goal": GOAL,
        "ok": ratio <= GOAL,
    }


def _medians(found: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(one[name] for one in found), 3) for name in found[0]}
