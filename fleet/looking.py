"""A window as a training on it would find it, without a change of any row: what is missing is made in memory.

What was scored is taken as it is stored. A window that was collected is scored here, and one that was not even
collected is read from its source, both by the methods that need no judge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from rl.scoring import ScoreRow, scores
from rl.scoring_config import Scoring

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.tables import Line, Window
    from db.trajectories import Scored
    from rl.config import LineConfig
    from rl.records import Call, Trajectory

ASKED = "would be asked: judge"
"""How the reason begins for a trajectory that has no score because a judge is yet to be asked."""


@dataclass
class Look:
    """A window as a training would find it: its rows with their scores, and what is known of them.

    ``read_from`` is ``database`` or ``source``. ``why`` says in words why a row has no score, and ``spoken`` has the
    calls of rows that are not stored.
    """

    name: str
    state: str
    read_from: str
    reason: str | None = None
    rows: list[Scored] = field(default_factory=list)
    why: dict[str, str] = field(default_factory=dict)
    spoken: dict[str, list[Call]] = field(default_factory=dict)
    unusable: Counter[str] = field(default_factory=Counter)


def known(session: Session, line: Line, name: str) -> Window | None:
    """The window's row; None of an hour that only the source knows of.

    Raises:
        MalformedWindow: ``name`` is not a window id.
        UnknownWindow: no such window on the line, and its source has no row of that hour.
    """
    import sources
    from db import lines, windows
    from rl.windows import parse
    from tasks.requests import only_look

    parsed, url = parse(name), lines.config_of(line).source
    found = windows.find(session, line.id, parsed.text)
    if found is None and not (parsed.hour and url is not None and sources.connect(only_look(url)).holds(parsed)):
        windows.named(session, line.id, parsed.text)
    return found


def look(session: Session, line: Line, name: str, window: Window | None, config: LineConfig) -> Look:
    """The window called ``name``; ``window`` is its row, if it has one."""
    from db import trajectories

    state = "unknown" if window is None else window.state
    if window is None or state in ("open", "closed"):
        if window is not None and window.run_id is not None:
            return Look(name, state, "nowhere", "it is to be played first")
        return _from_source(session, line, name, state, config)
    seen = Look(name, state, "database", window.reason, trajectories.of_windows(session, [window.id]))
    if state == "collected":
        _scored_here(session, seen, window, Scoring() if window.run_id is not None else config.scoring)
    return seen


def _from_source(session: Session, line: Line, name: str, state: str, config: LineConfig) -> Look:
    """What collecting and scoring would give."""
    from db import redacting, trajectories, withdrawals
    from tasks.gather import _read
    from tasks.requests import only_look

    seen = Look(name, state, "source", "not collected yet")
    if config.source is None:
        return replace(seen, read_from="nowhere", reason="the line has no source to collect it from")
    good, bad, _, _ = _read(only_look(config.source), name, redacting.of_line(session, line.id))
    seen.unusable.update(one.reason for one in bad)
    refused = withdrawals.refused(session, [one.trajectory_id for one in good])
    seen.unusable.update("its owner refused consent" for one in good if one.trajectory_id in refused)
    good = [one for one in good if one.trajectory_id not in refused]
    taken = trajectories.known(session, [one.trajectory_id for one in good])
    seen.unusable.update("its id is another trajectory's, or was erased" for one in good if one.trajectory_id in taken)
    first = {one.trajectory_id: one for one in reversed(good) if one.trajectory_id not in taken}
    fresh = [one for one in good if first.get(one.trajectory_id) is one]
    seen.rows = [_row(one, name) for one in fresh]
    seen.spoken = {one.trajectory_id: one.calls for one in fresh}
    _give_scores(session, seen, fresh, config.scoring)
    return seen


def _scored_here(session: Session, seen: Look, window: Window, scoring: Scoring) -> None:
    from db import episodes

    _give_scores(session, seen, episodes.of_window(session, window.id), scoring)


def _give_scores(session: Session, seen: Look, found: Sequence[Trajectory], scoring: Scoring) -> None:
    """Scores by a method that needs no judge. One that has a score keeps it where the method gives none."""
    from db import feedback
    from rl.late import RATING

    if scoring.is_judged:
        model = scoring.judge.model if scoring.judge else scoring.method
        seen.why = {row.trajectory_id: f"{ASKED} {model}" for row in seen.rows if row.score is None}
        return
    given = feedback.newest(session, [one.trajectory_id for one in found])
    ratings = {name: values[RATING] for name, values in given.items() if RATING in values}
    made = {one.trajectory_id: one for one in scores(found, scoring, ratings)}
    for place, row in enumerate(seen.rows):
        score = made[row.trajectory_id]
        if isinstance(score, ScoreRow):
            seen.rows[place] = replace(
                row, score=score.score, score_id=None, method=score.method, compared_in=score.compared_in
            )
        elif row.score is None:
            seen.why[row.trajectory_id] = score.reason


def _row(one: Trajectory, window: str) -> Scored:
    from db.trajectories import Scored

    return Scored(one.trajectory_id, window, one.scenario_id, one.reward, None)
