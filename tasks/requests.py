"""What people and services ask for: ``request`` records the jobs first and rings afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery.utils.log import get_task_logger

from rl.errors import InvalidInput, PermanentError

log = get_task_logger(__name__)

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.tables import Line, Window


PATIENCE_SECONDS = 10.0
"""For the answer to each statement: all of a request must fit the time limit of the task that asks."""


def request(window_id: str, line: str = "main", message_id: str | None = None) -> int:
    """Record that the window is to be trained on, and the earlier jobs too. Returns the id of the training job.

    Calling it again gives the same id. Ring with ``tasks.ring.ring``; the reconciler rings in any case. The message
    that asked, if one did, can be looked up by its id later.

    Raises:
        MalformedWindow: ``window_id`` is not a window id.
        UnknownWindow: no such window on the line, and its source has no row of that hour.
        InvalidInput: no such line, the line does not say how to collect or train, or the window was skipped.
    """
    from db import dispatch, lines
    from db.session import transaction

    with transaction(patience=PATIENCE_SECONDS) as session:
        job_id = _request(session, lines.named(session, line), window_id)
        if message_id is not None:
            dispatch.note(session, message_id, job_id)
    return job_id


def _request(session: Session, row: Line, window_id: str) -> int:
    from db import job_views, planning
    from rl import planner

    window = _window(session, row, window_id)
    state = planning.line_state(session, row)
    seen = next((one for one in state.windows if one.name == window.name), None)
    if seen is None:
        return _trained_by(session, row, window)
    if seen.state == "skipped":
        raise InvalidInput("window_id", window.name, f"it was skipped: {window.reason}")
    if (known := job_views.live_training_of(session, row.id, window.name)) is not None:
        return known
    after: tuple[int, ...] = ()
    if seen.state in ("open", "closed"):
        collect = planner.collect(state, seen)
        after = (planning.request(session, row.id, collect, not_before=window.ends_at),)
    if seen.state in ("open", "closed", "collected"):
        after = (planning.request(session, row.id, planner.score(state, seen), after),)
    return planning.request(session, row.id, planner.train(state, seen), after)


def _window(session: Session, line: Line, window_id: str) -> Window:
    """The window's row; an hour that only the source knows of is opened here, closed already when it is over."""
    import sources
    from db import lines, windows
    from rl.windows import parse

    parsed = parse(window_id)
    found = windows.find(session, line.id, parsed.text)
    url = lines.config_of(line).source
    if found is None and parsed.ends_at is not None and url is not None and sources.connect(url).holds(parsed):
        over = parsed.ends_at <= windows.database_now(session)
        windows.ensure(session, line.id, parsed, state="closed" if over else "open")
    return found or windows.named(session, line.id, parsed.text)


def _trained_by(session: Session, line: Line, window: Window) -> int:
    """The job that trained a window of a run that has ended."""
    from db.job_views import training_of

    job_id = training_of(session, line.id, window.name)
    if job_id is None:
        raise InvalidInput("window_id", window.name, "its run has ended without training on it; start a new run")
    return job_id


def daily_training() -> list[int]:
    """Ask for one version per automatic line, trained on all its scored hours that were not trained on. Job ids.

    A line that cannot be planned does not hold up the others.
    """
    from db import planning
    from db.session import transaction

    with transaction() as session:
        names = [row.name for row in planning.lines(session)]
    asked = []
    for name in names:
        try:
            asked += _daily_training_of(name)
        except (PermanentError, ValueError):
            log.exception("line %s cannot be planned; the other lines go on", name)
    return asked


def _daily_training_of(name: str) -> list[int]:
    from db import job_views, lines, planning
    from db.session import transaction
    from rl import planner

    with transaction() as session:
        row = lines.named(session, name)
        state = planning.line_state(session, row)
        asked_before = job_views.being_trained(session, row.id)
        waiting = [
            window
            for window in state.windows
            if window.state == "scored" and window.run is None and window.name not in asked_before
        ]
        if not (waiting and state.config.automatic and state.config.train is not None):
            return []
        return [planning.request(session, row.id, planner.train(state, *waiting))]
