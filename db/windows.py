"""Windows: opening, closing and moving them along."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.tables import Line, Window
from rl.errors import UnknownWindow
from rl.windows import WindowId, hour_of


def ensure(session: Session, line_id: int, window: WindowId, *, state: str = "open", run_id: int | None = None) -> int:
    """The id of the window, created in ``state`` if it is not there."""
    values = {
        "line_id": line_id,
        "name": window.text,
        "run_id": run_id,
        "round": window.round,
        "starts_at": window.hour or func.now(),
        "ends_at": window.ends_at,
        "state": state,
    }
    session.execute(insert(Window).values(values).on_conflict_do_nothing(index_elements=["line_id", "name"]))
    return named(session, line_id, window.text).id


def find(session: Session, line_id: int, name: str) -> Window | None:
    """The window called ``name`` on that line, if there is one."""
    return session.scalar(select(Window).where(Window.line_id == line_id, Window.name == name))


def named(session: Session, line_id: int, name: str) -> Window:
    """The window called ``name`` on that line.

    Raises:
        UnknownWindow: there is none; the message names the newest there are.
    """
    window = find(session, line_id, name)
    if window is None:
        late_first = (Window.run_id.is_not(None), Window.name.desc(), Window.id.desc())
        newest = select(Window.name).where(Window.line_id == line_id).order_by(*late_first).limit(3)
        known = ", ".join(session.scalars(newest)) or "none yet"
        raise UnknownWindow("window_id", name, f"no such window on this line; the newest are: {known}")
    return window


def locked(session: Session, line_id: int, name: str) -> Window:
    """The same, locked until the transaction ends: what is decided by the window's state is decided once.

    Raises:
        UnknownWindow: there is none.
    """
    query = select(Window).where(Window.line_id == line_id, Window.name == name)
    found = session.scalar(query.with_for_update().execution_options(populate_existing=True))
    return found or named(session, line_id, name)


def of_run(session: Session, run_id: int) -> list[Window]:
    """The run's rounds, oldest first, locked until the transaction ends."""
    query = select(Window).where(Window.run_id == run_id).order_by(Window.id)
    return list(session.scalars(query.with_for_update().execution_options(populate_existing=True)))


CATCH_UP = timedelta(hours=72)
"""How far back hours are opened that passed while nothing ran; ask for older ones by name."""


def open_hours(session: Session) -> None:
    """Open the present hour, and those since the line's newest one, on every automatic line that has a source."""
    now = hour_of(database_now(session))
    newest = select(Window.line_id, func.max(Window.ends_at)).where(Window.run_id.is_(None)).group_by(Window.line_id)
    seen = {row[0]: row[1] for row in session.execute(newest)}
    for line in session.scalars(select(Line)):
        if not line.config.get("source") or not line.config.get("automatic", True):
            continue
        assert now.hour is not None  # noqa: S101 - an hour by construction
        hour = max(seen.get(line.id) or now.hour, now.hour - CATCH_UP)
        while hour <= now.hour:
            ensure(session, line.id, hour_of(hour))
            hour += timedelta(hours=1)


def close_past(session: Session) -> list[str]:
    """Close every open window whose hour is over by the database's clock. Returns their names."""
    statement = (
        update(Window)
        .where(Window.state == "open", Window.ends_at <= func.now())
        .values(state="closed")
        .returning(Window.name)
    )
    return list(session.scalars(statement))


def move(session: Session, window_id: int, state: str, reason: str | None = None) -> None:
    """Put the window in ``state``."""
    session.execute(update(Window).where(Window.id == window_id).values(state=state, reason=reason))


def note_rows(session: Session, window_id: int, rows: int) -> None:
    """The window's source was seen to have so many rows of it; fewer than before change nothing."""
    seen = func.greatest(func.coalesce(Window.rows_read, 0), rows)
    session.execute(update(Window).where(Window.id == window_id).values(rows_read=seen))


def reopen(session: Session, window_id: int, reason: str) -> None:
    """Rows were added to a window that was read before: it wants new scores, and what is new in it training.

    Also where it was not scored yet, because a job that scores it may have begun without them.
    """
    again = {"state": "collected", "reason": reason, "again": Window.again + 1}
    session.execute(update(Window).where(Window.id == window_id).values(**again))


def scored(session: Session, window_id: int, again: int, known: int) -> None:
    """The window has scores that heed the outcomes and ratings that ``known`` stands for.

    Only one that was collected moves on by that, and only while no rows came since it was read ``again`` times.
    """
    session.execute(update(Window).where(Window.id == window_id).values(known=known))
    waits = (Window.id == window_id, Window.state == "collected", Window.again == again)
    session.execute(update(Window).where(*waits).values(state="scored"))


def on_line(session: Session, line_id: int, names: Sequence[str] | None = None) -> list[Window]:
    """The line's windows, oldest first, or only those called ``names``."""
    query = select(Window).where(Window.line_id == line_id).order_by(Window.id)
    return list(session.scalars(query.where(Window.name.in_(names)) if names is not None else query))


def database_now(session: Session) -> datetime:
    """The database's clock, which decides when an hour is over."""
    return session.execute(select(func.now())).scalar_one()


def trajectories_in(session: Session, line_id: int, names: Sequence[str]) -> dict[str, int]:
    """How many trajectories each of the line's windows holds, by name."""
    query = text("""
        select w.name, count(t.trajectory_id) from rlfleet.windows w
          left join rlfleet.trajectories t on t.window_id = w.id and t.at = w.starts_at
         where w.line_id = :line_id and w.name = any(:names) group by w.name
    """)
    rows = session.execute(query, {"line_id": line_id, "names": list(names)})
    return {str(row[0]): int(row[1]) for row in rows}
