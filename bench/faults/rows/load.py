"""Rows 24 and 28: ten thousand jobs at once; a worker that has done thousands of tasks and lost its broker often."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

import psutil

from bench.faults.bench import Bench
from bench.faults.bulk import ends, score_jobs
from bench.faults.expect import expect, wait_until
from bench.faults.rows import Ours, row
from bench.faults.workers import Worker

BURST = 10_000
LINES = 8
SHARE, SHARE_A_MINUTE = 0.2, 0.15
"""What is done of the burst before the rest is withdrawn; more where the harness is given minutes."""
URGENT_SECONDS = 30.0
GROWTH = 0.10
SAMPLE_SECONDS = 0.1


@dataclass
class Watched:
    """What was seen of the broker and the workers while the block ran."""

    longest_queue: int = 0
    longest_rung: int = 0


@row(24, "a burst of 10,000 jobs", limit_seconds=240)
def burst(bench: Bench) -> Ours:
    """The backlog and its order stay in Postgres: the broker holds a few messages, and what is urgent goes first."""
    bench.workers.stand(("maint", "collect", "score", "gpu0"))
    second = bench.workers.start("score-second", "score")
    bench.workers.ready(second)
    _forget_gone(bench, workers := [bench.workers["score"], second])
    allowed = 2 * len(workers)
    warm = score_jobs(bench, lines=LINES, jobs=200)
    wait_until(lambda: _done(bench) == len(warm), 60, "200 jobs of a warm-up")
    before = [resident_bytes(worker) for worker in workers]
    score_jobs(bench, lines=LINES, jobs=BURST, first=len(warm))
    began, seen = time.monotonic(), Watched()
    urgent = bench.work.line(steps=1)
    bench.work.accept(urgent)
    bench.ground.do("update rlfleet.jobs set priority = 1 where dedup_key not like 'bulk-%'")
    minutes = bench.minutes or 0
    wanted = len(warm) + int(BURST * min(1, SHARE + SHARE_A_MINUTE * minutes))
    bound = 200.0 + 60 * minutes
    urgent_after = None
    while _done(bench) < wanted:
        expect(time.monotonic() - began < bound, f"{_done(bench)} of {wanted} jobs in {bound:g} s")
        _look(bench, seen)
        if urgent_after is None and bench.work.effects():
            urgent_after = time.monotonic() - began
        time.sleep(SAMPLE_SECONDS)
    rate = (wanted - len(warm)) / (time.monotonic() - began)
    growth = _growth(workers, before)
    _withdraw(bench)
    bench.work.wait_all(60)
    expect(_oldest(bench) is None, "a job is left that nobody does")
    expect(seen.longest_queue <= allowed, f"{seen.longest_queue} messages lay in Redis, and {allowed} are allowed")
    expect(seen.longest_rung <= allowed, f"{seen.longest_rung} jobs were rung and unanswered, {allowed} are allowed")
    expect(urgent_after is not None and urgent_after <= URGENT_SECONDS, f"the urgent job waited {urgent_after} s")
    expect(growth <= GROWTH, f"the workers grew by {growth:.0%} while they did {wanted} jobs")
    notes = {
        "rows": BURST,
        "done": wanted - len(warm),
        "jobs_per_second": round(rate, 1),
        "longest_queue": seen.longest_queue,
        "urgent_seconds": round(urgent_after or 0, 1),
        "growth": round(growth, 3),
    }
    return Ours(_done(bench) + 1, ends(bench) + bench.work.effects(), None, notes)


def _forget_gone(bench: Bench, present: list[Worker]) -> None:
    """Workers that an earlier row killed count as capacity for a minute, and more would be rung."""
    pids = [worker.main.pid for worker in present]
    bench.ground.do("delete from rlfleet.workers where 'score' = any(queues) and pid <> all(:pids)", pids=pids)


def _look(bench: Bench, seen: Watched) -> None:
    seen.longest_queue = max(seen.longest_queue, int(bench.ground.broker.llen("rlfleet:score")))
    rung = "select count(*) from rlfleet.jobs where queue = 'score' and state = 'queued' and last_sent_at is not null"
    seen.longest_rung = max(seen.longest_rung, int(bench.ground.one(rung)[0]))


def _done(bench: Bench) -> int:
    query = "select count(*) from rlfleet.jobs where state = 'succeeded' and dedup_key like 'bulk-%'"
    return int(bench.ground.one(query)[0])


def _oldest(bench: Bench) -> float | None:
    """Seconds that the oldest job waits; None when none does."""
    age: float | None = bench.ground.one(
        "select extract(epoch from now() - min(created_at))::float from rlfleet.jobs"
        " where state in ('queued', 'running')"
    )[0]
    return age


def _withdraw(bench: Bench) -> None:
    """Cancel what is left of the burst."""
    bench.ground.do("""
        update rlfleet.jobs set state = 'cancelled', finished_at = now(), error = 'withdrawn'
         where state = 'queued' and dedup_key like 'bulk-%'
    """)


def resident_bytes(worker: Worker) -> list[int]:
    """Resident memory of the main and of the pool process."""
    return [int(process.memory_info().rss) for process in (worker.main, worker.pool())]


def _growth(workers: list[Worker], before: list[list[int]]) -> float:
    """How much the process that grew most has grown, as a share."""
    after = [resident_bytes(worker) for worker in workers]
    pairs = [pair for then, now in zip(before, after, strict=True) for pair in zip(then, now, strict=True)]
    return max(now / then - 1 for then, now in pairs)


@row(28, "thousands of tasks and lost connections on one worker", limit_seconds=300)
def leak(bench: Bench) -> Ours:
    """Neither the main nor a pool process grows with what it has done."""
    minutes = bench.minutes or 0
    tasks, reconnects = min(20_000, int(2_000 + 1_000 * minutes)), min(50, int(10 + 2 * minutes))
    bench.workers.stand(("maint",))
    bench.workers.stop("score")
    bench.workers.stand(("score",))
    worker = bench.workers["score"]
    _do(bench, worker, 200, 1)
    before, main = _do(bench, worker, 400, 2), worker.main.pid
    after = _do(bench, worker, tasks, reconnects)
    expect(worker.main.pid == main, "the main process was replaced, which would hide what it leaks")
    growth = max(now / then - 1 for then, now in zip(before, after, strict=True))
    expect(growth < GROWTH, f"the worker grew by {growth:.1%} with {tasks} tasks and {reconnects} reconnections")
    asked = int(bench.ground.one("select count(*) from rlfleet.jobs where dedup_key like 'bulk-%'")[0])
    megabytes = [round(size / 2**20, 1) for size in (*before, *after)]
    notes = {"tasks": tasks, "reconnects": reconnects, "growth": round(growth, 3), "megabytes": megabytes}
    return Ours(asked, ends(bench), None, notes)


def _do(bench: Bench, worker: Worker, tasks: int, reconnects: int) -> list[int]:
    """Have so many jobs done, and cut the worker's connections in between.

    The largest resident memory that the main and the pool processes had: the latter are replaced after some hundred
    tasks, so that one moment would say nothing.
    """
    peaks = [0, 0]
    for _ in range(reconnects):
        before = _done(bench)
        goal = before + len(score_jobs(bench, lines=LINES, jobs=tasks // reconnects, first=before))

        def all_done(goal: int = goal) -> bool:
            with contextlib.suppress(psutil.Error, TimeoutError):
                peaks[:] = [max(pair) for pair in zip(peaks, resident_bytes(worker), strict=True)]
            return _done(bench) >= goal

        wait_until(all_done, 90, f"the end of {goal - before} jobs after a lost connection")
        _cut(bench)
    return peaks


def _cut(bench: Bench) -> None:
    """Close every connection to Valkey but our own."""
    for kind in ("normal", "pubsub"):
        bench.ground.broker.client_kill_filter(_type=kind, skipme=True)
