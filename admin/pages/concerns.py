"""What is not well in the fleet, in sentences, each with what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from admin.pages.formats import duration
from db.alerts import Alert
from db.approvals import Asked
from db.job_views import Summary
from db.pauses import Paused
from db.queues import Queue
from db.workers import PRESENT_SECONDS, Present

QUEUE_SECONDS = 900
"""A job that could begin and waits longer is worth a look."""
WORDS = {
    "beat_silent": "no beat sends the schedule",
    "canary_rolled_back": "the canary {subject} was rolled back",
    "canary_unwatched": "nobody looks at the canary {subject}",
    "canary_without_rewards": "the canary {subject} gets too few rewards to be judged",
    "capture_refused": "calls that the gateway kept could not be stored",
    "early_stop": "the run {subject} stopped early",
    "message_rejected": "messages arrive that no task can be made of: {subject}",
    "service_away": "{subject} waits for a training service that cannot be reached or is too busy",
    "store_lacks": "{subject} waits for a checkpoint that the store does not give",
}
REMEDIES = {
    "beat_silent": "start a beat: `rlfleet up` does",
    "canary_rolled_back": "see why on the page of its version, before another one is tried",
    "capture_refused": "look at the folder that the alert names; the gateway's log says why",
    "message_rejected": "stop whoever sends them; `rlfleet status` shows an example",
    "service_away": "see to the way there from the gpu workers and to quotas, or wait until it is back",
    "store_lacks": "start the host that has it, or mend the store; if it is lost, cancel the job",
}
TOLD_OF_ROWS = {"approval_waiting", "job_dead", "kind_paused", "queue_old", "worker_silent"}
"""Alerts of what the rows say as well, which know when it is over."""
GOOD = {"canary_finished"}
ALERT_SECONDS = 7200
"""An alert is told of for so long; what goes on is raised again every hour."""
OF_VERSIONS = {name for name in WORDS if name.startswith("canary")}
SHOWN = 8
Tone = Literal["warn", "bad"]


@dataclass(frozen=True)
class Concern:
    """Something to look at: what is so, what to do, and the page that has more."""

    tone: Tone
    words: str
    remedy: str = ""
    path: str = ""


def of_jobs(ended: Iterable[Summary], counts: Mapping[str, int]) -> Iterator[Concern]:
    """Dead and failed jobs: the newest by name, the others by number and state."""
    shown = list(ended)[:SHOWN]
    for one in shown:
        tone: Tone = "bad" if one.state == "dead" else "warn"
        why = f": {one.error}" if one.error else ""
        remedy = "open it, mend the cause, and requeue it; or cancel it to put it aside"
        yield Concern(tone, f"job {one.job_id} ({one.kind}, line {one.line}) is {one.state}{why}", remedy, _job(one))
    for state in ("dead", "failed"):
        rest = counts[state] - sum(one.state == state for one in shown)
        if rest > 0:
            words = f"{rest} more {state} job" + ("s" if rest > 1 else "")
            yield Concern("warn", words, "look at them in the list", f"/jobs?state={state}")


def of_pauses(paused: Iterable[Paused]) -> Iterator[Concern]:
    """Kinds of jobs that are neither rung nor claimed."""
    for one in paused:
        remedy = f"mend the cause, then `rlfleet jobs resume {one.kind}`"
        yield Concern("bad", f"jobs of kind {one.kind} are paused: {one.reason}", remedy, f"/jobs?kind={one.kind}")


def of_workers(workers: Iterable[Present], queues: Iterable[Queue]) -> Iterator[Concern]:
    """Workers that fell silent, and queues that nobody serves or that are served too slowly."""
    for one in workers:
        if one.silent_seconds > PRESENT_SECONDS:
            words = f"worker {one.name} was last heard of {duration(one.silent_seconds)} ago"
            yield Concern("bad", words, "look at its machine and its log; `rlfleet up` starts it again")
    for queue in queues:
        if queue.depth and not queue.capacity:
            words = f"{queue.depth} jobs wait in queue {queue.name}, and no worker serves it"
            yield Concern("bad", words, f"start a worker for it: `rlfleet up`, or `celery worker -Q {queue.name}`")
        elif (queue.oldest_seconds or 0) > QUEUE_SECONDS:
            waits = duration(queue.oldest_seconds or 0)
            words = f"the oldest of {queue.depth} jobs in queue {queue.name} waits for {waits}"
            yield Concern("warn", words, "start more workers for it, or wait for the backlog")


def of_candidates(candidates: Iterable[Mapping[str, Any]]) -> Iterator[Concern]:
    """Versions that wait for what does not come by itself: their words name the command that goes on."""
    for one in candidates:
        for words in filter(lambda said: one["version"] is None or "`rlfleet" in said, one["waits"]):
            version = one["version"]
            path = f"/versions/{version}" if version else ""
            yield Concern("warn", f"{version or 'line ' + one['line']}: {words}", "", path)


def of_approvals(asked: Iterable[Asked]) -> Iterator[Concern]:
    """Decisions that a person must approve or refuse."""
    for one in asked:
        words = f"a decision about {one.version} waits for a person: {one.reason}"
        yield Concern("warn", words, "approve it or refuse it on the page of its version", f"/versions/{one.version}")


def of_alerts(lately: Iterable[Alert]) -> Iterator[Concern]:
    """Alerts of things that no row tells of, the newest of each name and subject."""
    told: set[tuple[str, str]] = set()
    for one in lately:
        if one.name in TOLD_OF_ROWS | GOOD or (one.name, one.subject) in told:
            continue
        told.add((one.name, one.subject))
        known = WORDS.get(one.name, f"{one.name}: {{subject}}").format(subject=one.subject)
        why = one.detail.get("reason") or one.detail.get("evidence")
        said = one.detail.get("remedy")
        remedy = str(said) if said else REMEDIES.get(one.name, "").format(subject=one.subject)
        path = f"/versions/{one.subject}" if one.name in OF_VERSIONS else ""
        yield Concern("warn", known + (f": {why}" if why else ""), remedy, path)


def _job(one: Summary) -> str:
    return f"/jobs/{one.job_id}"
