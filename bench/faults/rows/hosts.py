"""Rows 29 to 32: workers on two hosts, both servers on one of them, and the link between the two is cut."""

from __future__ import annotations

import signal
import time
from datetime import datetime

from sqlalchemy import text

from bench.faults.bench import PATIENT, Bench
from bench.faults.expect import expect, wait_until
from bench.faults.hosts import Host, missing
from bench.faults.rows import Ours, row
from bench.faults.rows.beats import Beats, slots
from bench.faults.skew import skewed
from bench.faults.work import Hours, Job
from bench.faults.workers import STANDING, Worker
from db.session import transaction

STEPS = 60
LAST_STEPS = 16
"""No more are left when the link is cut: 4 s, because what a job's row says of its progress is up to 2 s old."""
LONG_LEASE_SECONDS = 20.0
"""Longer than a heartbeat waits for its answer, so that a training which is cut off can end within it."""
NOTICED_SECONDS = 120.0
"""How long a worker may take to see that its connections are dead, and to stop meanwhile."""
BACK_SECONDS = 90.0
DROPPED_SECONDS = 40.0
"""How long a transaction of a host that is gone may hold its locks: Postgres is to give it up after 25 s."""
FLAPS = 5
CLOCK_SECONDS = 600
LOCK = 29


@row(
    29,
    "two hosts, and the link is cut, with and without a word, while the other one trains",
    limit_seconds=400,
    recovery=True,
    missing=missing,
)
def cut_while_it_trains(bench: Bench) -> Ours:
    """This host takes the job over and commits; the other one's late commit is fenced, and it goes on working."""
    host = bench.host("host-b")
    _here(bench)
    unplugged = _late_commit(bench, host)
    worker = _workers(bench, host)[0]
    silent = _taken_over(bench, host, worker)
    back = _alone(bench, host, worker)
    seconds = {f"with_a_lease_of_{LONG_LEASE_SECONDS:g}_s": unplugged, "other_host_back": back}
    return bench.work.ours(silent, **{name: f"{value:.1f} s" for name, value in seconds.items()})


def _late_commit(bench: Bench, host: Host) -> float:
    """The other host's device goes down, its training ends all the same, and it commits when this one has.

    Returns the seconds until this host took the job.
    """
    worker = bench.workers.start("b-late", "gpu", {"RLFLEET_LEASE_SECONDS": f"{LONG_LEASE_SECONDS:g}"}, host=host)
    bench.workers.ready(worker)
    hours, job = _one_each(bench, worker)
    since = bench.ground.now()
    host.unplug()
    wait_until(
        lambda: f"job {job.id} fence {job.fence} is done, and waits" in worker.log, 60, "a training done without a link"
    )
    seconds = bench.work.recovery(job.id, since)
    bound = bench.recovery_bound - bench.lease_seconds + LONG_LEASE_SECONDS
    expect(seconds <= bound, f"claimed again {seconds:.1f} s after the cut, more than {bound:g} s")
    _done(bench, hours, fence=job.fence + 1, by="gpu0")
    host.mend()
    fenced = f"job {job.id} fence {job.fence}: the lease was lost before its effect was committed"
    wait_until(lambda: fenced in worker.log, NOTICED_SECONDS, "the late commit refused")
    bench.workers.stop(worker.name)
    return seconds


def _taken_over(bench: Bench, host: Host, worker: Worker) -> float:
    """Packets are lost on the way, and flow again while this host trains in its place. Seconds until it does."""
    hours, job = _one_each(bench, worker)
    since = bench.ground.now()
    host.silence()
    seconds = bench.work.recovery(job.id, since)
    host.mend()
    fenced = (f"job {job.id}: the lease ran out", f"job {job.id} fence {job.fence}: the lease was lost")
    wait_until(lambda: any(words in worker.log for words in fenced), NOTICED_SECONDS, "the first holder fenced")
    _done(bench, hours, fence=job.fence + 1, by="gpu0")
    return seconds


@row(30, "two hosts, and no packet gets through while this one trains", limit_seconds=400, missing=missing)
def cut_while_idle(bench: Bench) -> Ours:
    """Nothing happens to the job; the other host's idle workers notice, stop when they are told to, and come back."""
    host = bench.host("host-b")
    _here(bench)
    hours = bench.work.line(steps=STEPS)
    bench.work.ask(hours)
    bench.work.in_training(hours)
    there, leaving = _workers(bench, host), bench.workers.start("b-leaving", "collect", host=host)
    bench.workers.ready(leaving)
    since = time.monotonic()
    host.silence()
    _done(bench, hours, fence=1, by="gpu0")
    told = time.monotonic()
    leaving.send(signal.SIGTERM)
    leaving.wait_end(NOTICED_SECONDS)
    stopped = time.monotonic() - told
    wait_until(lambda: all("Connection to broker lost" in one.log for one in there), NOTICED_SECONDS, "they notice")
    seconds = {
        "stopped": stopped,
        "noticed": time.monotonic() - since,
        "other_host_back": _alone(bench, host, there[0]),
    }
    return bench.work.ours(None, **{name: f"{value:.1f} s" for name, value in seconds.items()})


@row(31, "two hosts, and the link is cut in the middle of a commit", limit_seconds=400, missing=missing)
def cut_in_the_commit(bench: Bench) -> Ours:
    """A commit whose answer is lost counts once; one that never came holds its locks for seconds, not for hours."""
    host = bench.host("host-b")
    bench.workers.stop("gpu0", "gpu1")
    bench.workers.stand(("maint", "collect", "score"))
    worker = _workers(bench, host)[0]
    heard = _answer_lost(bench, host, worker)
    held = _transaction_left(bench, host, worker)
    seconds = {"answer_lost_for": heard, "open_transaction_taken_over": held}
    return bench.work.ours(None, **{name: f"{value:.1f} s" for name, value in seconds.items()})


def _answer_lost(bench: Bench, host: Host, worker: Worker) -> float:
    """The version is committed, and the other host does not hear of it. Seconds until it gives the connection up."""
    hours, since = _cut_at(bench, host, "deferred")
    job = bench.work.wait_job(hours, lambda job: job.state == "succeeded", 30, "committed")
    waits = f"job {job.id} fence 1 is done, and waits"
    wait_until(lambda: waits in worker.log, NOTICED_SECONDS, "the committer sees that its connection is dead")
    seconds = (bench.ground.now() - since).total_seconds()
    host.mend()
    wait_until(lambda: f"job {job.id} train" in _answers(worker), NOTICED_SECONDS, "it hears of its own commit")
    _done(bench, hours, fence=1, by=worker.name)
    return seconds


def _transaction_left(bench: Bench, host: Host, worker: Worker) -> float:
    """The version is written and never committed. Seconds until this host takes the job, which is locked till then."""
    hours, since = _cut_at(bench, host, "immediate")
    job = bench.work.of(hours)[0]
    bench.workers.stand(("gpu0",))
    seconds = bench.work.recovery(job.id, since, 2 * DROPPED_SECONDS)
    expect(seconds <= DROPPED_SECONDS, f"the locks of a host that is gone were held for {seconds:.0f} s")
    _done(bench, hours, fence=2, by="gpu0")
    host.mend()
    fenced = f"job {job.id} fence 1: the lease was lost before its effect was committed"
    wait_until(lambda: fenced in worker.log, NOTICED_SECONDS, "the late commit refused")
    return seconds


@row(
    32,
    "two hosts with a beat each, ten minutes apart by their clocks, and the link comes and goes",
    limit_seconds=400,
    missing=missing,
)
def flapping(bench: Bench) -> Ours:
    """Short cuts cost nothing that is not made good, and each tick is taken once."""
    host = bench.host("host-b")
    bench.workers.stop("gpu0", "gpu1")
    bench.workers.stand(("maint", "collect", "score"))
    ahead = skewed(CLOCK_SECONDS, bench.ground.folder("skew"))
    _workers(bench, host, ahead)
    hours = bench.work.line(steps=2 * STEPS)
    bench.work.ask(hours)
    bench.work.in_training(hours)
    with Beats(bench) as beats:
        beats.start("here")
        beats.start("there", skew=CLOCK_SECONDS, host=host)
        for name in ("here", "there"):
            beats.await_sent(name, 1)
        bench.workers.stand(("gpu0",))
        for number in range(FLAPS):
            host.silence() if number % 2 else host.unplug()
            time.sleep(bench.rng.uniform(0.5, 2.5))
            host.mend()
            _moves(bench, hours)
        sent = beats.sent("there")
        beats.await_sent("there", sent + 2)
        wait_until(lambda: slots(bench) >= 4, 60, "four slots taken")
        expect(beats.total > slots(bench), "no tick was sent twice: the row does not break what it says")
        bench.work.wait_all(120)
        fence = bench.work.of(hours)[0].fence
        return bench.work.ours(None, claims=fence, slots=slots(bench), ticks_sent=beats.total)


def _here(bench: Bench) -> None:
    """This host's workers, with one device, which keeps what it has claimed."""
    bench.workers.stop("gpu0", "gpu1")
    bench.workers.stand(("maint", "collect", "score"))
    bench.workers.ready(bench.workers.start("gpu0", "gpu", PATIENT))


def _workers(bench: Bench, host: Host, env: dict[str, str] | None = None) -> list[Worker]:
    """Workers on the other host, the one with a device first."""
    kinds = {"b-gpu": "gpu", "b-cpu": "collect,score", "b-maint": "maint"}
    started = [bench.workers.start(name, queue, env, host=host) for name, queue in kinds.items()]
    bench.workers.ready(*started)
    return started


def _one_each(bench: Bench, worker: Worker) -> tuple[Hours, Job]:
    """A training on each host, both about to end: the line and the job of the one that ``worker`` does."""
    pair = bench.work.lines(2, steps=STEPS)
    bench.work.ask(*pair)
    held = {_name(bench, bench.work.in_training(hours, 60)): hours for hours in pair}
    expect(set(held) == {worker.name, "gpu0"}, f"the trainings are with {', '.join(sorted(held))}")
    hours = held[worker.name]
    late = STEPS - LAST_STEPS
    job = bench.work.wait_job(hours, lambda job: _step(job) >= late and job.state == "running", 60, "about to end")
    return hours, job


def _cut_at(bench: Bench, host: Host, when: str) -> tuple[Hours, datetime]:
    """Cut the link while a version is being added: where it is written (``immediate``), or in COMMIT (``deferred``).

    The server goes on when the link is cut. Returns the line, and when that was on the database's clock.
    """
    bench.ground.do("drop trigger if exists bench_waits on rlfleet.versions")
    bench.ground.do(WAIT)
    bench.ground.do(TRIGGER.format(when=when))
    hours = bench.work.line(steps=4)
    waiting = "select count(*) from pg_locks where locktype = 'advisory' and objid = :lock and not granted"
    with transaction() as session:
        session.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        bench.work.ask(hours)
        wait_until(lambda: bench.ground.one(waiting, lock=LOCK)[0], 60, "a version being added")
        since = bench.ground.now()
        host.silence()
    return hours, since


WAIT = f"""
    create or replace function bench_wait() returns trigger language plpgsql
    as $$ begin perform pg_advisory_xact_lock({LOCK}); return null; end $$
"""
TRIGGER = """
    create constraint trigger bench_waits after insert on rlfleet.versions deferrable initially {when}
    for each row execute function bench_wait()
"""


def _alone(bench: Bench, host: Host, worker: Worker) -> float:
    """Seconds from a link that works until the other host, alone, has collected, scored, and taken up a training."""
    bench.workers.stop(*STANDING)
    hours = bench.work.line(steps=2)
    bench.work.accept(hours)
    since = bench.ground.now()
    host.mend()
    job = bench.work.wait_job(hours, lambda job: job.state == "succeeded", BACK_SECONDS, "done by the other host")
    expect(_name(bench, job) == worker.name, f"{job.owner} is not {worker.name}")
    return bench.work.recovery(job.id, since)


def _done(bench: Bench, hours: Hours, *, fence: int, by: str) -> None:
    done = bench.work.wait_job(hours, lambda job: job.state == "succeeded", 90, "ended")
    expect((done.fence, _name(bench, done)) == (fence, by), f"job {done.id}: fence {done.fence} of {done.owner}")


def _moves(bench: Bench, hours: Hours) -> None:
    """Until the training was heard of again, by whomever it is done, or has ended."""
    moved = "select heartbeat_at > :since or state = 'succeeded' from rlfleet.jobs where id = :id"
    job, since = bench.work.of(hours)[0], bench.ground.now()
    wait_until(lambda: bench.ground.one(moved, id=job.id, since=since)[0], NOTICED_SECONDS, f"a heartbeat of {job.id}")


def _answers(worker: Worker) -> str:
    """What its tasks have returned, as its log has it."""
    return "\n".join(line for line in worker.log.splitlines() if " succeeded in " in line)


def _name(bench: Bench, job: Job) -> str:
    return bench.workers.holder(job.owner or "").name


def _step(job: Job) -> int:
    return int((job.progress or {}).get("step", 0))
