"""Rows 14 to 16: Postgres restarts, does not say whether it committed, or is away for one worker; clocks differ."""

from __future__ import annotations

from bench.faults.bench import Bench
from bench.faults.expect import expect, wait_until
from bench.faults.rows import Ours, row
from bench.faults.skew import skewed
from bench.faults.work import Hours
from bench.faults.workers import Worker
from db.session import dispose

OFF_SECONDS = 600
"""How wrong a clock is: far more than a lease, a back-off, or a message's expiry."""


@row(14, "Postgres is killed in mid-training; the answer to a commit is lost, done or not", limit_seconds=120)
def restart_and_lose_commits(bench: Bench) -> Ours:
    """A training outlives the restart; a commit whose outcome is unknown is tried again and counts once."""
    bench.workers.stand()
    hours = bench.work.line(steps=16)
    bench.work.ask(hours)
    bench.work.in_training(hours)
    bench.ground.kill_postgres()
    dispose()  # a server process can outlive the postmaster by a moment, and answer once more
    bench.ground.start_postgres()
    after = bench.work.wait_job(hours, lambda job: job.state == "succeeded", 40, "ended")
    expect(after.fence == 1, f"the restart cost {after.fence - 1} attempts")
    bench.workers.stop("gpu0", "gpu1")
    for unasked in (False, True):
        _lose_commit(bench, unasked=unasked)
    bench.work.wait_all(30)
    return bench.work.ours()


def _lose_commit(bench: Bench, *, unasked: bool) -> None:
    """One training whose worker never hears whether its version was committed."""
    proxy = bench.proxy(bench.ground.database_url)
    proxy.lose_answer(to="COMMIT", after="INSERT INTO rlfleet.versions", unasked=unasked)
    worker = bench.workers.start(f"lost-{int(unasked)}", "gpu", {"DATABASE_URL": proxy.url})
    bench.workers.ready(worker)
    hours = bench.work.line(steps=2)
    bench.work.ask(hours)
    done = bench.work.wait_job(hours, lambda job: job.state == "succeeded", 40, "ended")
    expect(proxy.lost == 1, "no commit was lost: the row does not break what it says")
    expect(done.fence == 1, f"the lost answer cost {done.fence - 1} attempts, and the work was done already")
    bench.workers.stop(worker.name)


@row(15, "Postgres unreachable for one worker, longer than its lease", limit_seconds=90, recovery=True)
def unreachable(bench: Bench) -> Ours:
    """Another worker takes the job and commits; the first finds out that it was fenced, and writes nothing."""
    bench.workers.stand(("maint", "collect", "score"))
    bench.workers.stop("gpu0", "gpu1")
    proxy = bench.proxy(bench.ground.database_url)
    cut_off = bench.workers.start("cut-off", "gpu", {"DATABASE_URL": proxy.url})
    bench.workers.ready(cut_off)
    hours = bench.work.line(steps=30)
    bench.work.ask(hours)
    job = bench.work.in_training(hours)
    since = bench.ground.now()
    proxy.freeze()
    bench.workers.stand(("gpu0",))
    seconds = bench.work.recovery(job.id, since)
    second = bench.work.wait_job(hours, lambda job: job.fence == 2, 5, "claimed again")
    expect(bench.workers.holder(second.owner or "").name == "gpu0", "the worker without a database holds the job")
    proxy.thaw()
    wait_until(
        lambda: f"job {job.id}: the lease" in cut_off.log or "was lost" in cut_off.log, 30, "the first is fenced"
    )
    bench.work.wait_all(40)
    _still_works(bench, cut_off)
    return bench.work.ours(seconds)


def _still_works(bench: Bench, worker: Worker) -> None:
    """The worker takes the next job as if nothing had been."""
    bench.workers.stop("gpu0")
    hours = bench.work.line(steps=2)
    bench.work.ask(hours)
    done = bench.work.wait_job(hours, lambda job: job.state == "succeeded", 40, f"done by {worker.name}")
    expect(bench.workers.holder(done.owner or "").name == worker.name, f"{done.owner} is not {worker.name}")


@row(16, "clocks 10 minutes ahead and 10 minutes behind, and a holder dies", limit_seconds=120, recovery=True)
def wrong_clocks(bench: Bench) -> Ours:
    """Only the database's clock decides about leases, back-offs and who is late."""
    bench.workers.stop("maint", "collect", "score", "gpu0", "gpu1")
    folder = bench.ground.folder("skew")
    ahead, behind = skewed(OFF_SECONDS, folder), skewed(-OFF_SECONDS, folder)
    started = [
        bench.workers.start("maint-behind", "maint", behind),
        bench.workers.start("cpu-ahead", "collect,score", ahead),
        bench.workers.start("gpu-ahead", "gpu", ahead),
        bench.workers.start("gpu-behind", "gpu", behind),
    ]
    bench.workers.stand(("maint",))
    bench.workers.ready(*started)
    first, others = bench.work.line(steps=12), bench.work.lines(3, steps=3)
    bench.work.ask(first, *others)
    slowest = _kill_holder(bench, first)
    bench.work.wait_all(60)
    return bench.work.ours(slowest)


def _kill_holder(bench: Bench, hours: Hours) -> float:
    job = bench.work.in_training(hours)
    worker, since = bench.workers.holder(job.owner or ""), bench.ground.now()
    worker.kill()
    return bench.work.recovery(job.id, since)
