"""What people and services ask for: jobs are recorded first and rung afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from celery.utils.log import get_task_logger

from rl.errors import InvalidInput, PermanentError

log = get_task_logger(__name__)

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.tables import Line, Window
    from rl.planner import LineState, WindowState
    from rl.readiness import Readiness
    from rl.windows import WindowId

    Note = Callable[[Session], None]

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
    return request_together([window_id], line, message_id)


def request_together(
    window_ids: Sequence[str], line: str = "main", message_id: str | None = None, note: Note | None = None
) -> int:
    """The same for one version that learns from all of the windows, in whatever order they are given.

    ``note`` is called in the transaction that records it.

    Raises:
        MalformedWindow, UnknownWindow, InvalidInput: as in ``request``; or one of several is a round of a run.
    """
    from db import dispatch, lines
    from db.session import transaction

    held = _held_by_source(line, window_ids)
    with transaction(patience=PATIENCE_SECONDS) as session:
        job_id = _request(session, lines.named(session, line), window_ids, held)
        if message_id is not None:
            dispatch.note(session, message_id, job_id)
        if note is not None:
            note(session)
    return job_id


def _held_by_source(line: str, window_ids: Sequence[str]) -> frozenset[str]:
    """Those of the hours that are no windows yet and have a row in the line's source. It is asked in no transaction."""
    import sources
    from db import lines, windows
    from db.session import transaction
    from rl.windows import parse

    with transaction(patience=PATIENCE_SECONDS) as session:
        row = lines.named(session, line)
        url = lines.config_of(row).source
        hours = {one.text: one for one in map(parse, window_ids) if one.ends_at is not None}
        unknown = [one for one in hours.values() if windows.find(session, row.id, one.text) is None]
    if not unknown or url is None:
        return frozenset()
    source = sources.connect(url)
    return frozenset(one.text for one in unknown if source.holds(one))


def _request(session: Session, row: Line, window_ids: Sequence[str], held: frozenset[str]) -> int:
    from db import planning
    from rl import planner

    if not window_ids:
        raise InvalidInput("window_id", [], "name at least one window")
    found = {window.name: window for window in (_window(session, row, one, held) for one in window_ids)}
    if len(found) != 1 and (rounds := [name for name, window in found.items() if window.run_id is not None]):
        raise InvalidInput("window_id", rounds[0], "a round of a run is trained on alone; ask for it by itself")
    state = planning.line_state(session, row)
    chosen = [one for one in state.windows if one.name in found]
    chosen.sort(key=lambda one: one.name)
    if not chosen:
        return _trained_by(session, row, next(iter(found.values())))
    for one in chosen:
        if one.state == "skipped":
            raise InvalidInput("window_id", one.name, f"it was skipped: {found[one.name].reason}")
    known = {_live(session, row, one) for one in chosen}
    if len(known) == 1 and (job_id := known.pop()) is not None:
        return job_id
    after = [job for one in chosen for job in _before(session, row, state, one, found[one.name].ends_at)]
    return planning.request(session, row.id, planner.train(state, *chosen), tuple(after))


def _live(session: Session, row: Line, window: WindowState) -> int | None:
    """The training job on the window that was not given up. Rows that came late to a trained one want another.

    A window that is scored does not wait with others for a job that ended without success.
    """
    from db import job_views

    ended, in_vain = window.state == "trained", window.state != "scored"
    return job_views.live_training_of(session, row.id, window.name, ended=ended, in_vain=in_vain)


def _before(
    session: Session, row: Line, state: LineState, window: WindowState, ends_at: datetime | None
) -> tuple[int, ...]:
    """The jobs that the training on the window waits for, which are asked for here, if there are any."""
    from db import planning
    from rl import planner

    after: tuple[int, ...] = ()
    if window.state in ("open", "closed"):
        wants = planner.collect(state, window)
        after = tuple(planning.request(session, row.id, want, not_before=ends_at) for want in wants)
    if window.state in ("open", "closed", "collected"):
        after = (planning.request(session, row.id, planner.score(state, window), after),)
    return after


def _window(session: Session, line: Line, window_id: str, held: frozenset[str]) -> Window:
    """The window's row; an hour that only the source has (``held``) is opened here, closed already when it is over."""
    from db import windows
    from rl.windows import parse

    parsed = parse(window_id)
    found = windows.find(session, line.id, parsed.text)
    if found is None and parsed.ends_at is not None and parsed.text in held:
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


def backfill(line: str, since: datetime, until: datetime, every: int = 0, note: Note | None = None) -> list[int]:
    """Record that all hours of the line's source from ``since`` to before ``until`` are to be trained on.

    One version learns from all of them, or one from each ``every`` in their order. Returns the ids of the training
    jobs, also of those that were there already. Hours that are not over or were skipped are left out. Both moments
    are aware; the source decides which hours have a moment between them. ``note`` is called in the same transaction.

    Raises:
        InvalidInput: no such line, it has no source or does not say how to train, or there is no such hour.
    """
    from db import lines, planning, windows
    from db.session import transaction
    from rl import planner

    hours = {one.text: one for one in hours_between(line, since, until)}
    with transaction(patience=PATIENCE_SECONDS) as session:
        row = lines.named(session, line)
        for hour in hours.values():
            windows.ensure(session, row.id, hour, state="closed")
        state = planning.line_state(session, row)
        chosen = sorted((one for one in state.windows if one.name in hours), key=lambda one: one.name)
        known = {one.name: _live(session, row, one) for one in chosen}
        waiting = [one for one in chosen if known[one.name] is None and one.state not in ("trained", "skipped")]
        jobs = {job for job in known.values() if job is not None}
        for together in _chunks(waiting, every):
            before = [job for one in together for job in _before(session, row, state, one, hours[one.name].ends_at)]
            jobs.add(planning.request(session, row.id, planner.train(state, *together), tuple(before)))
        if note is not None:
            note(session)
    return sorted(jobs)


def hours_between(line: str, since: datetime, until: datetime) -> list[WindowId]:
    """The hours that are over of the line's source from ``since`` to before ``until``, oldest first. Writes nothing.

    Raises:
        InvalidInput: no such line, it has no source, ``since`` is not before ``until``, or there is no such hour.
    """
    import sources
    from db import lines, windows
    from db.session import transaction
    from rl.windows import parse

    if since >= until:
        raise InvalidInput("since", since.isoformat(), f"must be before until = {until.isoformat()}")
    with transaction(patience=PATIENCE_SECONDS) as session:
        url, now = lines.config_of(lines.named(session, line)).source, windows.database_now(session)
    if url is None:
        raise InvalidInput("line.source", None, f"line {line!r} has no source to collect from")
    # Outside of a transaction: a source may take minutes to count.
    found = [parse(name) for name in sources.connect(only_look(url)).hours(since, until)]
    over = [one for one in found if one.ends_at is not None and one.ends_at <= now]
    if not over:
        raise InvalidInput("since", since.isoformat(), f"{url} has no row of an hour before {until} that is over")
    return sorted(over, key=lambda one: one.text)


def only_look(url: str) -> str:
    """The URL by which the source is read without a change: episodes that agents report are else ended when read."""
    return f"{url}?look" if url.startswith("recorded://") else url


def _chunks(windows: Sequence[WindowState], every: int) -> Iterator[Sequence[WindowState]]:
    size = every or max(len(windows), 1)
    return (windows[first : first + size] for first in range(0, len(windows), size))


def daily_training() -> list[int]:
    """Ask for one version per automatic line, trained on all its scored hours that were not trained on. Job ids.

    A line that is not ready waits, and the log says for what. One that cannot be planned does not hold up the others.
    """
    from db import planning
    from db.session import transaction

    with transaction() as session:
        names = [row.name for row in planning.lines(session)]
    asked = []
    for name in names:
        try:
            asked += train_when_ready(name, by_itself=True)[0]
        except (PermanentError, ValueError):
            log.exception("line %s cannot be planned; the other lines go on", name)
    return asked


def train_when_ready(
    line: str,
    *,
    by_itself: bool = False,
    force: bool = False,
    most: int | None = None,
    session: Session | None = None,
) -> tuple[list[int], Readiness | None]:
    """Ask for a version of all that waits on the line if that is enough. The job's id if so, and what it rests on.

    The readiness is None where nothing waits. ``by_itself`` leaves alone lines that train only when somebody asks.
    ``force`` asks also where it is not enough. With ``most``, whole windows, the oldest first, until they hold so many
    trajectories. In the caller's transaction where a ``session`` is given. The job may have ended: it is not asked for
    twice.

    Raises:
        InvalidInput: no such line.
        InvalidSettings: a threshold of the environment cannot be used.
    """
    from db import lines, planning, readiness
    from db.session import within
    from rl import planner

    with within(session) as mine:
        row = lines.named(mine, line)
        state = planning.line_state(mine, row)
        waiting = waiting_windows(mine, row, state)
        if not waiting or state.config.train is None or (by_itself and not state.config.automatic):
            return [], None
        found = readiness.readiness_of(mine, row)
        if not found.ready and not force:
            log.info("line %s is not trained: %s", line, found.reason)
            return [], found
        chosen = waiting if most is None else _oldest(mine, row, waiting, most)
        return [planning.request(mine, row.id, planner.train(state, *chosen))], found


def _oldest(session: Session, line: Line, waiting: Sequence[WindowState], most: int) -> list[WindowState]:
    """The first of the windows, until they hold ``most`` trajectories."""
    from db import windows

    held = windows.trajectories_in(session, line.id, [one.name for one in waiting])
    chosen: list[WindowState] = []
    for one in sorted(waiting, key=lambda window: window.name):
        if chosen and sum(held[other.name] for other in chosen) >= most:
            break
        chosen.append(one)
    return chosen


def waiting_windows(session: Session, line: Line, state: LineState) -> list[WindowState]:
    """The scored hours of the line that no training which has not ended is to learn from."""
    from db import job_views

    asked_before = job_views.being_trained(session, line.id)
    return [one for one in state.windows if one.state == "scored" and one.run is None and one.name not in asked_before]
