from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from db import dispatch, feedback, late, outcomes, trajectories, windows
from db.feedback import NewFeedback
from db.session import transaction
from db.tables import Window
from rl.late import Heeds, Late
from rl.records import Trajectory
from rl.windows import hour_of
from tests.conftest_database import add_line

BOTH, RATINGS, OUTCOMES = Heeds(True, True), Heeds(True, False), Heeds(False, True)


@pytest.fixture
def session(fresh: str) -> Iterator[Session]:
    with transaction() as opened:
        yield opened


@pytest.fixture
def line(session: Session) -> int:
    return add_line(session).id


def add_window(session: Session, line: int, hours_ago: int, state: str = "scored", rows: int | None = None) -> Window:
    """The hour window that began so many full hours ago."""
    began = windows.database_now(session) - timedelta(hours=hours_ago)
    window = hour_of(began)
    windows.ensure(session, line, window, state=state)
    if rows is not None:
        windows.note_rows(session, windows.named(session, line, window.text).id, rows)
    return windows.locked(session, line, window.text)


def asked(session: Session, line: int, state: str, *names: str) -> None:
    """A training job on the windows."""
    spec = dispatch.Spec("train", line, {"windows": list(names)}, {}, "gpu")
    job = dispatch.request(session, spec)
    session.execute(
        text("""
            update rlfleet.jobs set state = :state, lease_until = case when :state = 'running' then now() end
             where id = :id
        """),
        {"state": state, "id": job},
    )


def test_windows_that_were_read_and_ended_lately_are_seen_with_their_trainings(session: Session, line: int) -> None:
    two, three, four, five = (add_window(session, line, ago, rows=ago) for ago in (2, 3, 4, 5))
    for state, window in (("succeeded", two), ("queued", three), ("running", four), ("dead", five)):
        asked(session, line, state, window.name)
    asked(session, line, "succeeded", three.name, four.name)
    for ago, state in ((1, "open"), (6, "closed"), (7, "collected"), (8, "trained"), (9, "skipped"), (80, "scored")):
        add_window(session, line, ago, state)
    gone = add_window(session, line, 10)
    session.execute(text("update rlfleet.windows set removed_at = now() where id = :id"), {"id": gone.id})

    found = late.hours(session, line, Late())
    assert [(one.state, one.rows_read, one.training) for one in found] == [
        ("skipped", 0, None),
        ("trained", 0, None),
        ("collected", 0, None),
        ("scored", 5, None),
        ("scored", 4, "live"),
        ("scored", 3, "live"),
        ("scored", 2, "done"),
    ]
    assert [int(one.age) for one in found] == [8, 7, 6, 4, 3, 2, 1]
    assert len(late.hours(session, line, Late(outcomes_after=(24,)))) == len(found) + 1
    assert late.span(session, line, [one.name for one in found[-2:]]) == (three.starts_at, two.ends_at)
    assert late.span(session, line, []) is None
    assert [late.takes(session, one, Late(policy="extend")) for one in (two, three, five, gone)] == [
        *(False, False, True, False)
    ]
    assert [late.takes(session, one, Late()) for one in (two, three, five, gone)] == [True, True, True, False]


def test_fewer_rows_than_were_seen_before_change_nothing(session: Session, line: int) -> None:
    window = add_window(session, line, 2)
    for rows in (3, 2):
        windows.note_rows(session, window.id, rows)
    assert windows.locked(session, line, window.name).rows_read == 3


def test_scores_move_a_window_on_only_from_collected_and_while_no_rows_came(session: Session, line: int) -> None:
    window = add_window(session, line, 2, "collected")
    windows.reopen(session, window.id, "1 row came late")
    windows.scored(session, window.id, 0, 4)
    assert _state(session, line, window) == ("collected", 1, 4, "1 row came late")
    windows.scored(session, window.id, 1, 5)
    assert _state(session, line, window) == ("scored", 1, 5, "1 row came late")
    for state in ("trained", "skipped"):
        windows.move(session, window.id, state)
        windows.scored(session, window.id, 1, 6)
        assert _state(session, line, window) == (state, 1, 6, None)


def _state(session: Session, line: int, window: Window) -> tuple[str, int, int, str | None]:
    row = windows.locked(session, line, window.name)
    return row.state, row.again, row.known, row.reason


def test_ratings_and_outcomes_are_counted_where_they_are_heeded(session: Session, line: int) -> None:
    window, quiet = add_window(session, line, 2), add_window(session, line, 3)
    at = datetime(2025, 1, 15, tzinfo=UTC)
    for one, key in ((window, "a"), (quiet, "b")):
        episode = Trajectory(
            trajectory_id=key, scenario_id="s", agent_id="a", started_at=at, ended_at=at, reward=0.0, calls=[]
        )
        trajectories.insert_trajectories(session, line, one.id, "jsonl", [episode])
    outcomes.add(session, {("a", None): {"won": True}, ("a", 0): {"won": True}})
    given = [
        NewFeedback(f"f{n}", "a", None, name, 1.0) for n, name in enumerate(("rating", "rating", "rating", "tone"))
    ]
    feedback.insert(session, given, at)
    counts = [late.known(session, window.id, heeded) for heeded in (BOTH, RATINGS, OUTCOMES, Heeds(False, False))]
    assert counts == [5, 3, 2, 0]
    assert late.known(session, quiet.id, BOTH) == 0

    assert late.changed(session, line, RATINGS) == {window.name: 3}
    windows.scored(session, window.id, 0, 3)
    assert late.changed(session, line, RATINGS) == {}
    assert late.changed(session, line, BOTH) == {window.name: 5}
    windows.move(session, window.id, "collected")
    assert late.changed(session, line, BOTH) == {}, "it is scored in any case"
