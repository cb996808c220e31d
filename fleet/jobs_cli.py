"""``rlfleet jobs``: look at jobs and messages, queue jobs again, cancel them, pause and resume kinds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.noted import noted
from fleet.terminal import LARGEST_ID, AsJson, connect, say, tell
from rl.errors import InvalidInput, PermanentError
from rl.protocol import JOB_KINDS

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.job_views import Summary

JobId = Annotated[int, typer.Argument(min=1, max=LARGEST_ID)]

jobs_app = typer.Typer(no_args_is_help=True, help="Look at jobs and act on them.")


@jobs_app.command("list")
def list_jobs(
    state: Annotated[str | None, typer.Option(help="only of this state")] = None,
    kind: Annotated[str | None, typer.Option(help="only of this kind: train, score, ...")] = None,
    line: Annotated[str | None, typer.Option(help="only of this line of versions")] = None,
    as_json: AsJson = False,
) -> None:
    """The newest jobs first."""
    from db import job_views, lines
    from db.job_states import State
    from db.session import transaction

    if state is not None and state not in tuple(State):
        raise InvalidInput("state", state, f"one of {', '.join(State)}")
    connect()
    if line is not None:
        with transaction() as session:
            lines.named(session, line)
    found = job_views.listing(state, kind=kind, line=line)
    if as_json:
        typer.echo(json.dumps({"schema": 1, "jobs": [vars(one) for one in found]}))
        return
    for one in found:
        say(one)


@jobs_app.command("show")
def show_job(job_id: JobId, as_json: AsJson = False) -> None:
    """One job with its history, its messages, and what its next attempt goes on from."""
    from db import job_views

    connect()
    found = _known(job_id)
    events, deliveries = job_views.events(job_id), job_views.deliveries(job_id)
    carried = job_views.carried_over(job_id)
    if as_json:
        about = {"job": vars(found), "events": events, "deliveries": [vars(one) for one in deliveries]}
        typer.echo(json.dumps({"schema": 1, **about, **carried}))
        return
    say(found)
    for name, value in {"progress": found.progress, **carried}.items():
        if value:
            say(f"  {name:12} {json.dumps(value)}")
    for event in events:
        say(_event_line(event))
    for one in deliveries:
        say(f"  {one.at}  message {one.message_id} {one.outcome}")


@jobs_app.command("find")
def find_job(
    message: Annotated[str, typer.Option(help="the id of a Celery message, as `delay` returns it")],
    as_json: AsJson = False,
) -> None:
    """Which job a message was about, and what became of it. Exit code 1 when no worker has seen the message."""
    from db import job_views

    connect()
    deliveries = job_views.by_message(message)
    jobs = {one.job_id: job_views.summary(one.job_id) for one in deliveries}
    if as_json:
        shown = [vars(one) | {"job": vars(jobs[one.job_id])} for one in deliveries]
        typer.echo(json.dumps({"schema": 1, "message": message, "deliveries": shown}))
    elif not deliveries:
        say(f"message {message}: no worker took it for a job; it waits, was lost or rejected, or came over 30 days ago")
    for one in () if as_json else deliveries:
        say(f"{one.at}  {one.outcome}: {jobs[one.job_id]}")
    raise typer.Exit(0 if deliveries else 1)


@jobs_app.command("requeue")
def requeue_job(
    job_id: JobId,
    anew: Annotated[
        bool, typer.Option("--anew", help="forget what a training service was asked for: it is asked once more")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Give a failed, dead or cancelled job new attempts."""
    from db import jobs

    connect()
    with noted("requeue job", job_id, anew=anew) as session:
        _known(job_id, session)
        if not jobs.requeue(job_id, session, anew=anew):
            raise InvalidInput("job", job_id, "only a failed, dead or cancelled job can be queued again")
    later = _ring()
    tell(as_json, {"job_id": job_id, "state": "queued", "later": later.strip() or None}, f"job {job_id}: queued{later}")


@jobs_app.command("cancel")
def cancel_job(job_id: JobId, as_json: AsJson = False) -> None:
    """Cancel a queued job at once; ask the worker of a running one to stop; put a failed or dead one aside.

    Exit code 1 when the job has succeeded already.
    """
    from db import jobs

    connect()
    with noted("cancel job", job_id) as session:
        before = _known(job_id, session).state
        state = jobs.cancel(job_id, session)
        if state == "succeeded":
            raise PermanentError(f"job {job_id} has succeeded: what it did is done, and cannot be cancelled")
    if before in ("failed", "dead"):
        words = f"put aside, it was {before}; `rlfleet jobs requeue {job_id}` opens it again"
    elif before not in ("queued", "running"):
        words = f"it was over already ({before})"
    else:
        words = f"{state}{', asked to stop' if state == 'running' else ''}"
    tell(as_json, {"job_id": job_id, "before": before, "state": state}, f"job {job_id}: {words}")


@jobs_app.command("pause")
def pause_kind(
    kind: Annotated[str, typer.Argument(help=", ".join(JOB_KINDS))],
    reason: Annotated[str, typer.Option(help="why; `rlfleet status` shows it")],
    as_json: AsJson = False,
) -> None:
    """Start no more jobs of a kind until it is resumed. Running ones go on."""
    from db import pauses

    connect()
    _check_kind(kind)
    with noted("pause", kind, reason=reason) as session:
        changed = pauses.pause(kind, reason, session)
    words = f"{kind}: paused" if changed else f"{kind}: it was paused already"
    tell(as_json, {"kind": kind, "paused": True, "changed": changed}, words)


@jobs_app.command("resume")
def resume_kind(
    kind: Annotated[str, typer.Argument(help=", ".join(JOB_KINDS))],
    as_json: AsJson = False,
) -> None:
    """Start jobs of a paused kind again. Dead ones stay dead: requeue them when their cause is gone."""
    from db import pauses

    connect()
    _check_kind(kind)
    with noted("resume", kind) as session:
        changed = pauses.resume(kind, session)
    later = _ring() if changed else ""
    words = f"{kind}: resumed{later}" if changed else f"{kind}: it was not paused"
    tell(as_json, {"kind": kind, "paused": False, "changed": changed, "later": later.strip() or None}, words)


def _known(job_id: int, session: Session | None = None) -> Summary:
    """The job.

    Raises:
        InvalidInput: there is no such job.
    """
    from db import job_views

    found = job_views.summary(job_id, session)
    if found is None:
        raise InvalidInput("job", job_id, "no such job; `rlfleet jobs list` shows them")
    return found


def _ring() -> str:
    """Ring what is due. The rows are changed already: without a broker that is said, and not an error."""
    from tasks.ring import ring_or_later

    later = ring_or_later()
    return f"\nit is rung when the broker is back: {later}" if later else ""


def _check_kind(kind: str) -> None:
    if kind not in JOB_KINDS:
        raise InvalidInput("kind", kind, f"one of {', '.join(JOB_KINDS)}")


def _event_line(event: dict[str, Any]) -> str:
    moved = f"{event['from'] or 'new'} -> {event['to']}"
    why = f" ({event['reason']})" if event["reason"] else ""
    return f"  {event['at']}  {moved:24} fence {event['fence']} attempt {event['attempt']}{why}"
