"""Rows 9 and 10: Valkey forgets everything that it was told."""

from __future__ import annotations

import time
from collections.abc import Callable

from bench.faults.bench import Bench
from bench.faults.expect import expect, wait_until
from bench.faults.rows import Ours, Raw, raw, row

TIMES = 5
BACKLOG = 8


@row(9, "SIGKILL of Valkey and an empty restart, idle and in mid-training, five times", limit_seconds=150)
def restart_empty(bench: Bench) -> Ours:
    """Workers take up again, and every job that was accepted is done, though all messages are gone."""
    bench.workers.stand()
    slowest = 0.0
    for number in range(TIMES):
        hours = bench.work.line(steps=6)
        if number % 2:
            bench.work.accept(hours)
            bench.work.in_training(hours)
        bench.ground.kill_valkey()
        time.sleep(bench.rng.uniform(0.2, 1.5))
        bench.ground.start_valkey(empty=True)
        began = time.monotonic()
        more = bench.work.line(steps=2)
        bench.work.accept(more) if number % 2 else bench.work.accept(hours, more)
        bench.work.wait_all(60)
        slowest = max(slowest, time.monotonic() - began)
    expect(all(job.state == "succeeded" for job in bench.work.jobs()), "not every job has succeeded")
    return bench.work.ours(None, slowest_seconds=round(slowest, 1))


@raw(9)
def raw_restart_empty(bench: Bench) -> Raw:
    """What waited is gone; what ran is done."""

    def restart_empty() -> None:
        bench.ground.kill_valkey()
        bench.ground.start_valkey(empty=True)

    return _raw_backlog(bench, restart_empty, 20)


@row(10, "FLUSHALL with a backlog", limit_seconds=90, quick=True)
def flush(bench: Bench) -> Ours:
    """Jobs that were rung and not claimed are rung again, and done once."""
    bench.workers.stand()
    lines = bench.work.lines(BACKLOG, steps=4)
    bench.work.accept(*lines)
    wait_until(lambda: bench.ground.broker.llen("rlfleet:gpu") > 1, 30, "a backlog of trainings")
    lost = int(bench.ground.broker.llen("rlfleet:gpu"))
    bench.ground.flush()
    since = time.monotonic()
    bench.work.wait_all(60)
    expect(all(job.state == "succeeded" for job in bench.work.jobs()), "not every job has succeeded")
    return bench.work.ours(None, messages_lost=lost, seconds=round(time.monotonic() - since, 1))


@raw(10)
def raw_flush(bench: Bench) -> Raw:
    """The backlog is gone."""
    return _raw_backlog(bench, bench.ground.flush, 15)


def _raw_backlog(bench: Bench, lose: Callable[[], object], seconds: float) -> Raw:
    """What two raw workers have done ``seconds`` after the messages of their backlog were lost."""
    with bench.raw() as celery:
        celery.start("one", "two")
        celery.send(BACKLOG, 1.0)
        celery.until(celery.starts, 20)
        lose()
        celery.until_done(BACKLOG, seconds)
        return Raw(BACKLOG, sum(celery.effects().values()), None)
