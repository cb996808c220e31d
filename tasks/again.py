"""Look again: rows that reached a source after their window was read, and what became known after it was scored.

Both looks are level-triggered: they compare what is there with what the window's row says was taken into account, and
only the effect of the job that they ask for changes that. Equal jobs are one row. So a look that is killed anywhere,
or done twice, loses and doubles nothing: the next one finds the same difference.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from celery.utils.log import get_task_logger

from tasks.ring import ring
from worker.app import app
from worker.crash import crash_point

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.tables import Line
    from rl.late import Hour, Late

log = get_task_logger(__name__)


@app.task(name="rlfleet.look_again", time_limit=3300)
def look_again(period_seconds: int = 0) -> str:
    """Ask for readings of windows whose source has more rows than were read, or has learned how things turned out.

    With a period, only the first of that tick does.
    """
    from db.slots import take_slot

    if period_seconds and not take_slot("late", period_seconds):
        return "late: this tick is taken"
    crash_point("after-slot", "look_again")
    asked = _of_each_line(_rows_of)
    return f"late: asked for {len(asked)}, rang {len(ring())}"


def scores_again() -> list[int]:
    """Ask for new scores of windows of which something became known that their scores do not heed. Job ids."""
    return _of_each_line(_scores_of)


def _of_each_line(look: Callable[[str], list[int]]) -> list[int]:
    """What the look asks for on every line. One that fails, or its source, does not hold up the others.

    The order is drawn, so that a source that takes all the time there is does not always hold up the same lines.
    """
    from db import planning
    from db.session import transaction

    with transaction() as session:
        names = [row.name for row in planning.lines(session)]
    asked: list[int] = []
    for name in random.sample(names, len(names)):
        try:
            asked += look(name)
        except Exception:  # whatever a library of somebody's source raises; nothing was written
            log.exception("line %s was not looked at again; the other lines go on", name)
    return asked


def _rows_of(name: str) -> list[int]:
    import sources
    from db import late, lines
    from db.session import transaction
    from rl.late import countable

    with transaction() as session:
        row = lines.named(session, name)
        config = lines.config_of(row)
        if not config.automatic or config.source is None:
            return []
        counted = countable(config.late, late.hours(session, row.id, config.late))
        span = late.span(session, row.id, [one.name for one in counted])
    held = sources.connect(config.source).hours(*span) if span else {}  # may take minutes
    with transaction() as session:
        row = lines.named(session, name)
        if lines.config_of(row).source != config.source:
            return []
        return _ask_for_readings(session, row, late.hours(session, row.id, config.late), config.late, held)


def _ask_for_readings(session: Session, line: Line, hours: list[Hour], late: Late, held: dict[str, int]) -> list[int]:
    from db import planning
    from rl import planner
    from rl.late import readings

    wanted = readings(late, hours, held)
    if not wanted:
        return []
    state = planning.line_state(session, line)
    windows = {one.name: one for one in state.windows}
    wants = [planner.collect(state, windows[one.window], rows=one.rows, after_hours=one.after_hours) for one in wanted]
    return [planning.request(session, line.id, want) for several in wants for want in several]


def _scores_of(name: str) -> list[int]:
    from db import late, lines, planning
    from db.session import transaction
    from rl import planner
    from rl.late import heeds

    with transaction() as session:
        row = lines.named(session, name)
        heeded = heeds(lines.config_of(row).scoring)
        found = late.changed(session, row.id, heeded) if heeded.anything else {}
        if not found:
            return []
        state = planning.line_state(session, row)
        changed = [window for window in state.windows if window.name in found]
        wants = [planner.score(state, window, known=found[window.name]) for window in changed]
        return [planning.request(session, row.id, want) for want in wants]
