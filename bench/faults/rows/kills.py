"""Rows 1 to 3: processes of a GPU worker are killed in the middle of a training."""

from __future__ import annotations

import psutil

from bench.faults.bench import Bench
from bench.faults.expect import expect, wait_until
from bench.faults.raw import Part, Setup
from bench.faults.rows import Ours, Raw, raw, row
from bench.faults.work import Hours, Job
from bench.faults.workers import Worker

STEPS = 12
"""Three seconds: long enough to be in the middle of, and to heartbeat."""
RAW_SECONDS = 6.0
VISIBILITY_SECONDS = 8


@row(1, "SIGKILL of the pool process that supervises, in mid-training", limit_seconds=60, recovery=True, quick=True)
def kill_supervisor(bench: Bench) -> Ours:
    """The device's child must die with its supervisor, and another attempt must make the one version."""
    bench.workers.stand()
    hours, job, worker = training(bench)
    trainer, since = worker.trainer(), bench.ground.now()
    worker.pool().kill()
    wait_until(lambda: not runs(trainer), 30, f"end of the device's child {trainer.pid} with its supervisor")
    return recovered(bench, hours, job, since_seconds=bench.work.recovery(job.id, since))


@row(2, "SIGKILL of the device's child alone", limit_seconds=60)
def kill_trainer(bench: Bench) -> Ours:
    """The supervisor lives, says what happened, and the job is tried again after its back-off."""
    bench.workers.stand()
    hours, job, worker = training(bench)
    pool, since = worker.pool(), bench.ground.now()
    worker.trainer().kill()
    seconds = bench.work.recovery(job.id, since)
    reasons = bench.work.reasons(job.id)
    expect(any("ChildLost" in reason for reason in reasons), f"no event says that the child was lost: {reasons}")
    expect(runs(pool), "the supervisor has died with the device's child")
    return recovered(bench, hours, job, since_seconds=seconds)


@row(3, "SIGKILL of a worker's main process alone, then of a whole worker", limit_seconds=90, recovery=True)
def kill_worker(bench: Bench) -> Ours:
    """Killing the main process must take the pool process and the device's child along, as a container's end does."""
    slowest = 0.0
    for whole in (False, True):
        bench.workers.stand()
        hours, job, worker = training(bench)
        everything, since = worker.everything(), bench.ground.now()
        if whole:
            worker.kill()
        else:
            worker.main.kill()
            worker.wait_end()
        wait_until(lambda: not any(map(runs, everything)), 30, "end of everything below the main process")  # noqa: B023
        slowest = max(slowest, bench.work.recovery(job.id, since))
        recovered(bench, hours, job, since_seconds=slowest)
    return bench.work.ours(slowest)


def training(bench: Bench) -> tuple[Hours, Job, Worker]:
    """A training in its middle, and the worker that does it."""
    hours = bench.work.line(steps=STEPS)
    bench.work.ask(hours)
    job = bench.work.in_training(hours)
    return hours, job, bench.workers.holder(job.owner or "")


def recovered(bench: Bench, hours: Hours, job: Job, *, since_seconds: float) -> Ours:
    """The job succeeded on a later attempt: the second, unless the machine stands still for longer than a lease."""
    bench.work.wait_all(40)
    after = bench.work.of(hours)[-1]
    expect(after.state == "succeeded", f"job {after.id} is {after.state}: {after.error}")
    expect(after.attempt > job.attempt, f"job {after.id} took {after.attempt} attempts, and its holder was lost")
    return bench.work.ours(since_seconds)


def runs(process: psutil.Process) -> bool:
    """Whether the process has not ended; a zombie has."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@raw(1)
def raw_kill_supervisor(bench: Bench) -> Raw:
    """Late acknowledgement alone does not bring the task back: Celery acknowledges what its pool process lost."""
    return _raw_kill(bench, "pool")


@raw(3)
def raw_kill_worker(bench: Bench) -> Raw:
    """The message comes back once the visibility timeout is over, where somebody sweeps."""
    return _raw_kill(bench, "group")


def _raw_kill(bench: Bench, part: Part) -> Raw:
    with bench.raw(Setup(visibility_seconds=VISIBILITY_SECONDS)) as celery:
        celery.start("one")
        celery.send(1, RAW_SECONDS)
        celery.until(celery.starts, 20)
        celery.start("two")
        celery.kill("one", part)
        again = celery.until(lambda: celery.starts().get(1, 0) > 1, VISIBILITY_SECONDS + 5)
        celery.until_done(1, RAW_SECONDS + 5 if again else 0)
        return Raw(1, sum(celery.effects().values()), again, {"runs": celery.starts().get(1, 0)})
