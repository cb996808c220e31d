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


def test_other_ratings_and_outcomes_where_they_are_heeded_are_another_mark(session: Session, line: int) -> None:
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
    both, rated, learned = (late.known(session, window.id, heeded) for heeded in (BOTH, RATINGS, OUTCOMES))
    assert len({both, rated, learned, 0}) == 4
    assert max(abs(mark) for mark in (both, rated, learned)) < 2**53, "exact in any JSON"
    assert late.known(session, window.id, Heeds(False, False)) == late.known(session, quiet.id, BOTH) == 0

    assert late.changed(session, line, RATINGS) == {window.name: rated}
    windows.scored(session, window.id, 0, rated)
    assert late.changed(session, line, RATINGS) == {}
    assert late.changed(session, line, BOTH) == {window.name: both}

    session.execute(text("delete from rlfleet.feedback where feedback_id = 'f0'"))
    feedback.insert(session, [NewFeedback("f9", "a", None, "rating", 1.0)], at)
    assert late.changed(session, line, RATINGS) == {window.name: late.known(session, window.id, RATINGS)}
    windows.move(session, window.id, "collected")
    assert late.changed(session, line, BOTH) == {}, "it is scored in any case"


@pytest.mark.parametrize(("state", "hours"), [("scored", 1), ("trained", 24)])
def test_a_window_that_is_being_scored_or_was_just_now_is_left_alone(
    session: Session, line: int, state: str, hours: float
) -> None:
    window = add_window(session, line, 2, state)
    at = datetime(2025, 1, 15, tzinfo=UTC)
    episode = Trajectory(
        trajectory_id="a", scenario_id="s", agent_id="a", started_at=at, ended_at=at, reward=0.0, calls=[]
    )
    trajectories.insert_trajectories(session, line, window.id, "jsonl", [episode])
    feedback.insert(session, [NewFeedback("f0", "a", None, "rating", 1.0)], at)
    job = dispatch.request(session, dispatch.Spec("score", line, {"window": window.name}, {}, "score"))

    def seen(job_state: str, minutes_more: float) -> bool:
        session.execute(
            text("""
                update rlfleet.jobs set state = :state, finished_at = case when :state <> 'queued'
                       then now() - make_interval(secs => :seconds) end where id = :id
            """),
            {"state": job_state, "seconds": hours * 3600 + minutes_more * 60, "id": job},
        )
        return window.name in late.changed(session, line, RATINGS)

    assert [seen("queued", 0), seen("succeeded", -1), seen("failed", -1)] == [False, False, False]
    assert [seen("succeeded", 1), seen("failed", 1)] == [True, True]


def test_a_training_that_waits_in_vain_is_not_about_to_use_a_window(session: Session, line: int) -> None:
    window = add_window(session, line, 2)
    collect = dispatch.request(session, dispatch.Spec("collect", line, {"window": "x"}, {}, "collect"))
    score = dispatch.request(session, dispatch.Spec("score", line, {"window": "x"}, {}, "score", (collect,)))
    inputs = {"windows": [window.name, "x"]}
    dispatch.request(session, dispatch.Spec("train", line, inputs, {}, "gpu", (score,)))
    for state, training in (("queued", "live"), ("dead", None), ("failed", None), ("cancelled", None)):
        session.execute(text("update rlfleet.jobs set state = :state where id = :id"), {"state": state, "id": collect})
        assert [one.training for one in late.hours(session, line, Late())] == [training]
