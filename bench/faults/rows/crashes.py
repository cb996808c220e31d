"""Row 4: a process is killed at every step boundary of a task's life, and of the dispatcher's."""

from __future__ import annotations

from datetime import datetime

from bench.faults.bench import Bench
from bench.faults.expect import expect, wait_until
from bench.faults.rows import Ours, row
from worker.crash import POINTS

DISPATCHER = ("before-send", "after-send")
QUICK = ("train:after-claim", "train:before-commit", "train:after-commit")
STEPS = 6
"""One and a half seconds, so that the lease is renewed on the way."""


def places() -> list[str]:
    """Every point of a training, the ends of collecting and scoring, the request, and the dispatcher's two points.

    The dispatcher's are tried in the worker that rings for a request.
    """
    train = [f"train:{point}" for point in POINTS if point not in DISPATCHER]
    others = ["collect:after-claim", "collect:before-commit", "score:before-commit", "score:after-commit"]
    requests = [f"train_window:{point}" for point in ("after-commit", "before-claim")]
    return [*train, *others, *DISPATCHER, *requests]


@row(4, "SIGKILL at every step boundary of a task and of the dispatcher", limit_seconds=420, recovery=True, quick=True)
def crash_everywhere(bench: Bench) -> Ours:
    """Each place in a worker of its own, which is killed there once and replaced by its main process."""
    slowest, seconds = 0.0, {}
    for place in QUICK if bench.quick else places():
        seconds[place] = round(_crash(bench, place), 1)
        slowest = max(slowest, seconds[place])
    return bench.work.ours(slowest, **seconds)


def _crash(bench: Bench, place: str) -> float:
    """Crash one worker there. The seconds until its job, or the one that its death held up, was claimed."""
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
    wait_until((state / "crash" / place).exists, 30, f"a crash at {place}")
    since = bench.ground.now()
    bench.work.wait_all(40, f"after a crash at {place}")
    expect(all(job.state == "succeeded" for job in bench.work.jobs()), f"{place}: not every job has succeeded")
    recovery = _recovery(bench, hours.line, since)
    bench.workers.stop(name)
    return recovery


def _recovery(bench: Bench, line: str, since: datetime) -> float:
    """Seconds to the claim that the crash held up; 0 where it held up none."""
    claims = bench.ground.rows(
        """
        select extract(epoch from e.at - cast(:since as timestamptz))
          from rlfleet.job_events e join rlfleet.jobs j on j.id = e.job_id join rlfleet.lines l on l.id = j.line_id
         where l.name = :line and e.to_state = 'running' and e.at > :since order by e.id
        """,
        line=line,
        since=since,
    )
    return float(claims[0][0]) if claims else 0.0


def _queue(place: str) -> str:
    """The queue of the worker that is to crash there."""
    task = place.rpartition(":")[0]
    return {"train": "gpu", "train_window": "maint", "collect": "collect", "score": "score"}.get(task, "maint")
