"""From rows to messages: the planner asks for what is missing, the dispatcher rings what is due."""

from __future__ import annotations

from celery.utils.log import get_task_logger

from rl.errors import PermanentError
from worker.app import app

log = get_task_logger(__name__)

RESEND_SECONDS = 60.0
"""A job that was rung and not claimed for this long is rung again."""

EXPIRY_SECONDS = 3600.0
"""Rings that nobody answered are dropped after this. Far more than clocks differ, since a worker's clock decides."""

CAPACITY = {"collect": 2, "score": 2, "gpu": 2, "maint": 2}
"""Jobs that a queue's workers can do at once; twice as many are rung, the rest wait in Postgres in order."""


def advance(line: str | None = None) -> list[int]:
    """Create the jobs that are missing on the line (or on all), then ring what is due. Returns the ids rung.

    A line that cannot be planned, because its config is no longer understood, does not hold up the others.
    """
    from db import planning, windows
    from db.session import transaction

    with transaction() as session:
        windows.open_hours(session)
        windows.close_past(session)
        names = [one.name for one in planning.lines(session) if line in (None, one.name)]
    for name in names:
        try:
            _ask_for_missing(name)
        except (PermanentError, ValueError):
            log.exception("line %s cannot be planned; the other lines go on", name)
    return ring()


def _ask_for_missing(name: str) -> None:
    from db import lines, planning
    from db.session import transaction
    from rl.planner import OpenRound, plan

    with transaction() as session:
        line = lines.named(session, name)
        for want in plan(planning.line_state(session, line)):
            if isinstance(want, OpenRound):
                planning.open_round(session, line.id, want)
            else:
                planning.request(session, line.id, want)


def ring() -> list[int]:
    """Send a message for every job that is due. Returns their ids.

    Raises:
        BrokerUnavailable: the broker is away; the jobs stay due.
    """
    from db import jobs
    from rl.errors import BrokerUnavailable

    due = jobs.due(RESEND_SECONDS, CAPACITY)
    for place, (job_id, kind) in enumerate(due):
        try:
            app.tasks[f"rlfleet.{kind}"].apply_async((job_id,), expires=EXPIRY_SECONDS)
        except BrokerUnavailable:
            jobs.unsend([one for one, _ in due[place:]])
            raise
    return [job_id for job_id, _ in due]
