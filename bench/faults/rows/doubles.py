"""Rows 5 to 8: what runs twice elsewhere. A holder that wakes up late, messages that come twice, and poison."""

from __future__ import annotations

import json
import signal

from bench.faults.bench import PATIENT, Bench
from bench.faults.expect import expect, wait_until
from bench.faults.raw import Setup
from bench.faults.rows import Ours, Raw, raw, row

COPIES = 10
VISIBILITY_SECONDS = 5
"""As in ``late_app``, which only a worker may import: it changes the app."""
LONG_STEPS = 48
"""Twelve seconds: more than twice the visibility timeout."""
WATCH_SECONDS = 20.0
"""How long raw Celery is watched where it never comes to an end."""


@row(5, "SIGSTOP of a holder past its lease, then SIGCONT", limit_seconds=90, recovery=True)
def wake_late(bench: Bench) -> Ours:
    """The stopped holder loses its job. Awake again, it must write nothing, whether its successor is done or not.

    The second time its device's child is stopped too, and a worker waits for the same device: it must not get it
    before that child is gone.
    """
    bench.workers.stand()
    slowest = max(_wake(bench, whole=False), _wake(bench, whole=True))
    return bench.work.ours(slowest)


def _wake(bench: Bench, *, whole: bool) -> float:
    hours = bench.work.line(steps=12)
    bench.work.ask(hours)
    job = bench.work.in_training(hours)
    zombie = bench.workers.holder(job.owner or "")
    stopped = [zombie.pool(), zombie.trainer()] if whole else [zombie.pool()]
    since = bench.ground.now()
    for process in stopped:
        process.suspend()
    if whole:
        heir = bench.workers.start("heir", "gpu", {"RLFLEET_DEVICE": f"fake-{zombie.name}"})
        heir.wait_ready()
    recovery = bench.work.recovery(job.id, since)
    if not whole:
        bench.work.wait_all(40)
    for process in stopped:
        process.resume()
    bench.work.wait_all(60)
    after = bench.work.of(hours)[-1]
    expect((after.state, after.fence) == ("succeeded", 2), f"job {job.id} is {after.state} with fence {after.fence}")
    expect(after.owner != job.owner, f"job {job.id} was finished by {after.owner}, who had lost it")
    wait_until(lambda: f"job {job.id} fence 1: the lease was lost" in zombie.log, 10, f"{zombie} to see its loss")
    bench.workers.stop("heir")
    return recovery


@raw(5)
def raw_wake_late(bench: Bench) -> Raw:
    """The message is given to another worker, and both write."""
    with bench.raw(Setup(visibility_seconds=VISIBILITY_SECONDS)) as celery:
        celery.start("one")
        celery.send(1, 4.0)
        celery.until(celery.starts, 20)
        celery.kill("one", "pool", signal.SIGSTOP)
        celery.start("two")
        again = celery.until(lambda: celery.starts().get(1, 0) > 1, WATCH_SECONDS)
        celery.kill("one", "pool", signal.SIGCONT)
        celery.until(lambda: celery.effects().get(1, 0) > 1, 10)
        return Raw(1, sum(celery.effects().values()), again, {"runs": celery.starts().get(1, 0)})


@row(6, "the same message ten times at once", limit_seconds=90, quick=True)
def duplicate(bench: Bench) -> Ours:
    """Ten requests for one window, and ten messages for its training: one claim, and the others are skipped."""
    bench.workers.stand(("collect", "score", "maint"))
    bench.workers.stop("gpu0", "gpu1")
    bench.workers.ready(*[bench.workers.start(f"patient{n}", "gpu", PATIENT) for n in range(2)])
    from tasks import train

    hours = bench.work.line(steps=8)
    bench.work.ask(*[hours] * COPIES)
    job = bench.work.wait_job(hours, lambda job: job.state == "running", 30, "running")
    for _ in range(COPIES):
        train.delay(job.id)
    bench.work.wait_all(40)
    wait_until(lambda: _drained(bench), 30, "the end of all messages")
    wait_until(lambda: sum(bench.work.deliveries(job.id).values()) >= 2 * COPIES + 1, 30, "every message to arrive")
    outcomes = bench.work.deliveries(job.id)
    expect(outcomes.get("claimed") == 1, f"job {job.id} was claimed by {outcomes.get('claimed')} messages")
    expect(outcomes.get("skipped", 0) >= COPIES, f"only {outcomes.get('skipped', 0)} messages were skipped")
    expect(outcomes.get("requested") == COPIES, f"{outcomes.get('requested')} of {COPIES} requests were noted")
    return bench.work.ours(None, **outcomes)


@raw(6)
def raw_duplicate(bench: Bench) -> Raw:
    """Every copy is carried out."""
    with bench.raw() as celery:
        celery.start("one", "two")
        for _ in range(COPIES):
            celery.send(1, 0.3)
        celery.until(lambda: celery.effects().get(1, 0) >= COPIES, WATCH_SECONDS)
        return Raw(1, sum(celery.effects().values()), None, {"runs": celery.starts().get(1, 0)})


@row(7, "late acknowledgement, and a task twice as long as the visibility timeout", limit_seconds=90)
def redeliver(bench: Bench) -> Ours:
    """The message is delivered again while its task runs; the copies are skipped, and the queue drains."""
    bench.workers.stand(("collect", "score", "maint"))
    bench.workers.stop("gpu0", "gpu1")
    late = [bench.workers.start(f"late{n}", "gpu", PATIENT, app="bench.faults.late_app") for n in range(2)]
    bench.workers.ready(*late)
    hours = bench.work.line(steps=LONG_STEPS)
    bench.work.ask(hours)
    bench.work.wait_all(60)
    job = bench.work.of(hours)[-1]
    outcomes = bench.work.deliveries(job.id)
    expect((job.state, job.fence) == ("succeeded", 1), f"job {job.id} is {job.state} with fence {job.fence}")
    expect(outcomes.get("skipped", 0) >= 1, f"no message was delivered again: {outcomes}")
    wait_until(lambda: _drained(bench), 15, "the end of all messages")
    return bench.work.ours(None, **outcomes)


@raw(7)
def raw_redeliver(bench: Bench) -> Raw:
    """Each copy outlives the timeout in its turn: the task is carried out again and again."""
    with bench.raw(Setup(visibility_seconds=VISIBILITY_SECONDS)) as celery:
        celery.start("one", "two")
        celery.send(1, 12.0)
        celery.until(lambda: sum(celery.effects().values()) > 2, 2 * WATCH_SECONDS)
        return Raw(1, sum(celery.effects().values()), None, {"runs": celery.starts().get(1, 0)})


@row(8, "a job that kills its process every time", limit_seconds=90, quick=True)
def poison(bench: Bench) -> Ours:
    """It is tried as often as allowed and is dead then, a person hears of it, and everything else goes on."""
    bench.workers.stand()
    poisonous, *good = bench.work.line(steps=2, behaviour="exit"), *bench.work.lines(3, steps=2)
    bench.work.ask(poisonous, *good)
    bench.work.wait_all(60)
    job = bench.work.of(poisonous)[-1]
    expect((job.state, job.attempt) == ("dead", 3), f"job {job.id} is {job.state} after {job.attempt} attempts")
    alerts = bench.ground.rows("select name, subject from rlfleet.alerts where name = 'job_dead'")
    expect(len(alerts) == 1, f"there are {len(alerts)} alerts for one dead job")
    expect(all(bench.workers[name].alive for name in ("gpu0", "gpu1")), "a worker has died with the job")
    return bench.work.ours(None, attempts=job.attempt)


@raw(8)
def raw_poison(bench: Bench) -> Raw:
    """With ``task_reject_on_worker_lost``, without which the task is gone, it is carried out for ever."""
    with bench.raw(Setup(reject=True)) as celery:
        celery.start("one", "two")
        celery.send(1, poison=True)
        celery.send(3, 0.5, first=2)
        celery.until(lambda: False, WATCH_SECONDS)
        return Raw(4, sum(celery.effects().values()), None, {"runs_of_the_poison": celery.starts().get(1, 0)})


def _drained(bench: Bench) -> bool:
    """Whether no message of the ``gpu`` queue waits or is unacknowledged; a killed worker may have left others."""
    broker = bench.ground.broker
    held = (json.loads(message)[-1] for message in broker.hvals("rlfleet:unacked"))
    return not broker.llen("rlfleet:gpu") and "gpu" not in held
