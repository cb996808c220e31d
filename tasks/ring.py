"""From rows to messages: the planner asks for what is missing, the dispatcher rings what is due."""

from __future__ import annotations

from collections.abc import Callable

from celery.utils.log import get_task_logger

from rl.errors import BrokerUnavailable, DatabaseUnavailable, PermanentError
from rl.protocol import QUEUES
from worker.app import app
from worker.crash import crash_point
from worker.settings import settings
from worker.task import publishing

log = get_task_logger(__name__)

EXPIRY_SECONDS = 3600.0
"""Rings that nobody answered are dropped after this. Far more than clocks differ, since a worker's clock decides."""


def advance(line: str | None = None, *, again: bool = False) -> list[int]:
    """Create the jobs that are missing on the line (or on all), then ring what is due. Returns the ids rung.

    On all lines, hours that have begun are opened and those that are over closed first. A line that cannot be planned,
    because its config is no longer understood, does not hold up the others. For ``again`` see ``ring``.
    """
    for name in _lines() if line is None else [line]:
        try:
            _ask_for_missing(name)
        except (PermanentError, ValueError):
            log.exception("line %s cannot be planned; the other lines go on", name)
    return ring(again=again)


def _lines() -> list[str]:
    from db import planning, windows
    from db.session import transaction

    with transaction() as session:
        windows.open_hours(session)
        windows.close_past(session)
        return [one.name for one in planning.lines(session)]


def _ask_for_missing(name: str) -> None:
    from db import lines, planning
    from db.session import transaction
    from rl.planner import alarms, plan

    with transaction() as session:
        line = lines.named(session, name)
        state = planning.line_state(session, line)
        for wanted in plan(state):
            planning.carry_out(session, line.id, wanted)
        planning.raise_alarms(session, alarms(state))


def ring(*, again: bool = False) -> list[int]:
    """Send a message for every job that is due. Returns their ids.

    With ``again``, jobs whose message is lost are rung again: the broker is asked how many messages wait.

    Raises:
        BrokerUnavailable: the broker is away; the jobs stay due.
    """
    from db import dispatch

    due = dispatch.due(settings().resend_seconds, waiting=waiting() if again else None)
    if due:
        crash_point("before-send")
    unknown = [job_id for job_id, kind in due if f"rlfleet.{kind}" not in app.tasks]
    if unknown:
        log.warning("jobs %s are of kinds that this version does not know; a newer one rings them", unknown)
    for place, (job_id, kind) in enumerate(due):
        if job_id in unknown:
            continue
        try:
            app.tasks[f"rlfleet.{kind}"].apply_async((job_id,), expires=EXPIRY_SECONDS)
        except BrokerUnavailable:
            dispatch.unsend([one for one, _ in due[place:]])
            raise
    if unknown:
        dispatch.unsend(unknown)
    if due:
        crash_point("after-send")
    return [job_id for job_id, _ in due if job_id not in unknown]


def ring_or_later() -> str:
    """``ring``, after what is due was committed; where the broker or the database is away, why.

    The reconciler rings once they are back. Empty where all were rung.
    """
    return _or_later(ring)[1]


def advance_or_later(line: str) -> tuple[list[int], str]:
    """``advance``, as ``ring_or_later`` is ``ring``: the ids rung, and why none was, where that is so."""
    return _or_later(lambda: advance(line))


def _or_later(act: Callable[[], list[int]]) -> tuple[list[int], str]:
    try:
        return act(), ""
    except (BrokerUnavailable, DatabaseUnavailable) as error:
        log.warning("what is due is rung later, by the reconciler: %s", error)
        return [], str(error)


def waiting() -> dict[str, int]:
    """How many messages wait in each queue.

    Raises:
        BrokerUnavailable: the broker does not answer.
    """
    with publishing(app, "counting messages") as producer:
        channel = producer.channel
        return {queue: int(channel.queue_declare(queue=queue).message_count) for queue in QUEUES}
