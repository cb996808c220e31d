from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from db import windows
from db.session import transaction
from rl.errors import UnknownWindow
from rl.windows import hour_of, parse
from tests.conftest_database import add_line


@pytest.fixture
def session(fresh: str) -> Iterator[Session]:
    with transaction() as opened:
        yield opened


def test_a_window_is_made_once_and_keeps_its_state(session: Session) -> None:
    line = add_line(session).id
    hour = parse("2025-01-15T10:00")
    first = windows.ensure(session, line, hour)
    windows.move(session, first, "collected")
    assert windows.ensure(session, line, hour, state="closed") == first
    found = windows.named(session, line, "2025-01-15T10:00")
    session.refresh(found)
    assert (found.state, found.ends_at, found.round, found.run_id) == ("collected", hour.ends_at, None, None)


def test_a_round_has_a_number_and_no_end(session: Session) -> None:
    line = add_line(session).id
    windows.ensure(session, line, parse("run/demo/0003"), state="closed")
    found = windows.named(session, line, "run/demo/0003")
    assert (found.state, found.round, found.ends_at) == ("closed", 3, None)


def test_the_same_hour_is_another_window_on_another_line(session: Session) -> None:
    ids = {windows.ensure(session, add_line(session, name).id, parse("2025-01-15T10:00")) for name in ("a", "b")}
    assert len(ids) == 2


def test_an_unknown_window_is_answered_with_the_newest(session: Session) -> None:
    line = add_line(session).id
    with pytest.raises(UnknownWindow, match="the newest are: none yet"):
        windows.named(session, line, "2025-01-15T10:00")
    for hour in (4, 0, 3, 1, 2):  # in whichever order they were opened
        windows.ensure(session, line, parse(f"2025-01-15T0{hour}:00"))
    with pytest.raises(UnknownWindow) as caught:
        windows.named(session, line, "2025-01-15T10:00")
    assert str(caught.value) == (
        "window_id = '2025-01-15T10:00': no such window on this line; "
        "the newest are: 2025-01-15T04:00, 2025-01-15T03:00, 2025-01-15T02:00"
    )


def test_an_hour_is_closed_by_the_databases_clock_and_a_round_never(session: Session) -> None:
    line, now = add_line(session).id, windows.database_now(session)
    before, present = hour_of(now - timedelta(hours=1)), hour_of(now)
    for window in (before, present, parse("run/demo/0001")):
        windows.ensure(session, line, window)
    assert windows.close_past(session) == [before.text]
    assert windows.close_past(session) == []
    states = {window.name: window.state for window in windows.on_line(session, line)}
    assert states == {before.text: "closed", present.text: "open", "run/demo/0001": "open"}


def test_windows_are_listed_oldest_first_or_by_name(session: Session) -> None:
    line = add_line(session).id
    for name in ("2025-01-15T11:00", "2025-01-15T10:00", "run/demo/0001"):
        windows.ensure(session, line, parse(name))
    listed = [window.name for window in windows.on_line(session, line)]
    assert listed == ["2025-01-15T11:00", "2025-01-15T10:00", "run/demo/0001"]
    some = windows.on_line(session, line, ["run/demo/0001", "2025-01-15T11:00", "2025-01-15T12:00"])
    assert [window.name for window in some] == ["2025-01-15T11:00", "run/demo/0001"]
    assert windows.on_line(session, line, []) == []
