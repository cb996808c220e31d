"""Row 4: a process is killed at every step boundary of a task's life, and of the dispatcher's."""

from __future__ import annotations

from datetime import UTC, datetime

from bench.faults.bench import Bench
from bench.faults.expect import expect, wait_until
from bench.faults.rows import Ours, row
from bench.faults.work import Hours

DISPATCHER = ("before-send", "after-send")
OF_A_JOB = (
    "before-claim",
    "after-claim",
    "before-heartbeat",
    "after-heartbeat",
    "before-finish",
    "before-commit",
    "after-commit",
    "before-ack",
)
HELD = OF_A_JOB[1:6]
"""Where the process that is killed holds the job."""
QUICK = ("train:after-claim", "train:before-commit", "train:after-commit")
STEPS = 6
"""One and a half seconds, so that the lease is renewed on the way."""


def places() -> list[str]:
    """Every point of a training, the ends of collecting and scoring, the request, the dispatcher's two, and upkeep.

    The dispatcher's are tried in the worker that rings for a request.
    """
    train = [f"train:{point}" for point in OF_A_JOB]
    others = ["collect:after-claim", "collect:before-commit", "score:before-commit", "score:after-commit"]
    requests = [f"train_window:{point}" for point in ("after-commit", "before-claim")]
    upkeep = ["reconcile:after-slot", "tend:after-announce"]
    return [*train, *others, *DISPATCHER, *requests, *upkeep]


@row(4, "SIGKILL at every step boundary of a task and of the dispatcher", limit_seconds=420, recovery=True, quick=True)
def crash_everywhere(bench: Bench) -> Ours:
    """Each place in a worker of its own, which is killed there once and replaced by its main process."""
    slowest, seconds = 0.0, {}
    for place in QUICK if bench.quick else places():
        seconds[place] = round(_crash(bench, place), 1)
        slowest = max(slowest, seconds[place])
    return bench.work.ours(slowest, **seconds)


def _crash(bench: Bench, place: str) -> float:
    """Crash one worker there. The seconds until its job, or else one that its death held up, was claimed."""
    queue = _queue(place)
    rivals = [name for name in ("collect", "score", "maint", "gpu0", "gpu1") if name.rstrip("01") == queue]
    bench.workers.stop(*rivals)
    bench.workers.stand({"collect", "score", "maint", "gpu0"} - set(rivals))
    name = f"crash-{place.replace(':', '-')}"
    state = bench.ground.folder(f"state-{name}")
    worker = bench.workers.start(name, queue, {"RLFLEET_CRASH_AT": place, "RLFLEET_STATE": str(state)})
    worker.wait_ready()
    hours = bench.work.line(steps=STEPS)
    bench.work.ask(hours)
    marker = state / "crash" / place
    wait_until(marker.exists, 30, f"a crash at {place}")
    since = datetime.fromtimestamp(marker.stat().st_mtime, UTC)
    bench.work.wait_all(40, f"after a crash at {place}")
    expect(all(job.state == "succeeded" for job in bench.work.jobs()), f"{place}: not every job has succeeded")
    recovery = _recovery(bench, hours, place, since)
    bench.workers.stop(name)
    return recovery


def _recovery(bench: Bench, hours: Hours, place: str, since: datetime) -> float:
    """Seconds from the crash to the next claim of the job that was held; elsewhere to the line's first, or 0."""
    task, _, point = place.rpartition(":")
    if point in HELD:
        return _claimed_again(bench, bench.work.of(hours, task)[0].id, since)
    query = """
        select min(extract(epoch from e.at - cast(:since as timestamptz)))
          from rlfleet.job_events e join rlfleet.jobs j on j.id = e.job_id join rlfleet.lines l on l.id = j.line_id
         where l.name = :line and e.to_state = 'running' and e.at > :since
    """
    return float(bench.ground.one(query, line=hours.line, since=since)[0] or 0)


def _claimed_again(bench: Bench, job_id: int, since: datetime) -> float:
    """Seconds to the job's second claim, told by its fence: the first can have the same moment as the crash."""
    query = "select min(at) from rlfleet.job_events where job_id = :id and to_state = 'running' and fence > 1"
    at: datetime | None = bench.ground.one(query, id=job_id)[0]
    expect(at is not None, f"job {job_id} was not claimed again, and its holder was killed")
    assert at is not None
    return (at - since).total_seconds()


def _queue(place: str) -> str:
    """The queue of the worker that is to crash there."""
    task = place.rpartition(":")[0]
    return {"train": "gpu", "tend": "gpu", "collect": "collect", "score": "score"}.get(task, "maint")
