from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from db import lines, planning, windows
from db.session import transaction
from db.tables import Window
from rl.config import LineConfig
from rl.errors import InvalidInput
from rl.windows import hour_of
from tests.db.trained import add_line, add_version, start_run

HOUR = timedelta(hours=1)


@pytest.fixture
def session(fresh: str) -> Iterator[Session]:
    with transaction() as opened:
        yield opened


def put(session: Session, name: str, *, prefix: str | None = None, source: str | None = None, **fields: bool) -> int:
    config = LineConfig(base_model="random-qwen3", version_prefix=prefix, source=source, **fields)
    return lines.put(session, name, config)


def policy(session: Session, line_id: int, window: str) -> str:
    return planning.policy_of(session, windows.named(session, line_id, window))


def opened(session: Session, line_id: int) -> list[datetime]:
    """The starts of the line's hour windows that are open, oldest first."""
    ends = session.scalars(select(Window.ends_at).where(Window.line_id == line_id, Window.state == "open"))
    return sorted(end - HOUR for end in ends if end is not None)


def present(session: Session) -> datetime:
    """The hour that is now by the database's clock, which stands still within a transaction."""
    moment = hour_of(windows.database_now(session)).hour
    assert moment is not None
    return moment


def test_the_first_round_is_played_by_the_base_and_later_ones_by_the_runs_newest_version(session: Session) -> None:
    line = add_line(session)
    base = add_version(session, line, state="ready")
    start_run(session, base, rounds=3)
    first = add_version(session, line, "run/demo/0001")
    second = add_version(session, line, "run/demo/0002")
    add_version(session, line, "2025-01-15T10:00")
    played = [policy(session, line.id, f"run/demo/000{number}") for number in (1, 2, 3)]
    assert played == [base.name, first.name, second.name]


@pytest.mark.parametrize(("name", "alike"), [("a_b", "a-b"), ("a-b", "a_b"), ("a", "a_b"), ("a_", "ab")])
def test_a_runs_name_matches_no_other_runs_versions(session: Session, name: str, alike: str) -> None:
    line = add_line(session)
    base, other = add_version(session, line, state="ready"), add_version(session, line, state="ready")
    start_run(session, base, name)
    start_run(session, other, alike)
    theirs = add_version(session, line, f"run/{alike}/0001")
    assert policy(session, line.id, f"run/{name}/0002") == base.name
    assert policy(session, line.id, f"run/{alike}/0002") == theirs.name


def test_only_automatic_lines_with_a_source_get_the_present_hour(session: Session) -> None:
    automatic = put(session, "automatic", source="jsonl:///a.jsonl")
    by_hand = put(session, "by-hand", source="jsonl:///a.jsonl", automatic=False)
    without = put(session, "without-source")
    windows.open_hours(session)
    assert opened(session, automatic) == [present(session)]
    assert opened(session, by_hand) == opened(session, without) == []


def test_the_hours_since_the_newest_window_are_opened_and_a_second_call_changes_nothing(session: Session) -> None:
    line, now = put(session, "main", source="jsonl:///a.jsonl"), present(session)
    windows.ensure(session, line, hour_of(now - 3 * HOUR), state="scored")
    for _ in range(2):
        windows.open_hours(session)
        assert opened(session, line) == [now - 2 * HOUR, now - HOUR, now]
        assert len(windows.on_line(session, line)) == 4


def test_at_most_72_hours_are_caught_up(session: Session) -> None:
    line, now = put(session, "main", source="jsonl:///a.jsonl"), present(session)
    windows.ensure(session, line, hour_of(now - 100 * HOUR), state="scored")
    windows.open_hours(session)
    hours = opened(session, line)
    assert (hours[0], hours[-1], len(hours)) == (now - 72 * HOUR, now, 73), "72 that are past and the present one"


def test_a_window_that_somebody_asked_for_on_another_line_does_not_count(session: Session) -> None:
    line, other = put(session, "main", source="jsonl:///a.jsonl"), put(session, "other", source="jsonl:///b.jsonl")
    windows.ensure(session, other, hour_of(present(session) - 2 * HOUR), state="scored")
    windows.open_hours(session)
    assert (len(opened(session, line)), len(opened(session, other))) == (1, 2)


def test_versions_are_named_after_the_line_and_those_of_main_after_the_agent(session: Session) -> None:
    for name, prefix in (("main", None), ("traders", None), ("chat", "helper")):
        put(session, name, prefix=prefix)
    named = [lines.prefix_of(lines.named(session, name)) for name in ("main", "traders", "chat")]
    assert named == ["babylon-agent", "traders", "helper"]


@pytest.mark.parametrize(
    ("first", "second", "prefix", "shared"),
    [("main", "other", "babylon-agent", "babylon-agent"), ("traders", "other", "traders", "traders")],
)
def test_a_prefix_that_another_line_uses_is_refused_by_name(
    session: Session, first: str, second: str, prefix: str, shared: str
) -> None:
    put(session, first)
    with pytest.raises(InvalidInput) as caught:
        put(session, second, prefix=prefix)
    assert str(caught.value) == (
        f"line.version_prefix = '{shared}': line '{first}' names its versions so; "
        f"set another version_prefix for line '{second}'"
    )
    assert session.execute(text("select count(*) from rlfleet.lines")).scalar_one() == 1


def test_a_line_is_given_another_config_under_its_own_prefix(session: Session) -> None:
    line = put(session, "traders", prefix="t")
    assert put(session, "traders", prefix="t", source="jsonl:///a.jsonl") == line
    assert lines.config_of(lines.named(session, "traders")).source == "jsonl:///a.jsonl"
