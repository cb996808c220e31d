from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from db import recordings
from db.calls import NewCall, insert
from db.feedback import NewFeedback
from db.feedback import insert as give
from db.recordings import End, Start, Step
from db.session import transaction
from tests.db.kept import AT, DAYS, HOUR, add_line, job, left, old, quarantined, run
from tests.db.kept import removed as removed_with_weeks

pytestmark = pytest.mark.usefixtures("fresh")

SAID = {"role": "assistant", "content": "left"}


def removed() -> dict[str, int]:
    """What a pass removed, but for weeks in which nothing is."""
    return {name: count for name, count in removed_with_weeks().items() if name != "weeks"}


def spoken(name: str, at: datetime | None = AT, line: str = "main") -> None:
    """A call that the gateway captured, of a trajectory that no window collected."""
    with transaction() as session:
        insert(session, [NewCall(f"c-{name}", name, 0, line, "m", "alice", [], SAID, at=at)])


def reported(name: str, days_ago: int, line: str = "main", ends: bool = True) -> None:
    """An episode that an agent reported, of which nothing was heard for so many days."""
    with transaction() as session:
        events: list[Any] = [Start(name, "alice", line=line, metadata={"note": "x"}), Step(name, 0, state={"a": 1})]
        recordings.store(session, [*events, *([End(name)] if ends else [])])
    since = "now() - make_interval(days => :days) where trajectory_id = :id"
    run(f"update rlfleet.recordings set created_at = {since}", id=name, days=days_ago)  # noqa: S608
    if days_ago > DAYS:
        run("update rlfleet.turns set at = :at where trajectory_id = :id", id=name, at=AT)


def names(table: str) -> set[str]:
    return set(run(f"select trajectory_id from rlfleet.{table}"))  # noqa: S608


def test_calls_that_no_window_collected_go_after_as_many_days() -> None:
    old()
    spoken("long ago")
    spoken("just now", datetime.now(UTC))
    spoken("elsewhere", line="other")
    with transaction() as session:
        give(session, [NewFeedback("f", "long ago", None, "rating", 1.0)], AT)
        add_line(session, "other", None)
    assert removed() == {"calls": 1, "call keys": 1, "feedback": 1}
    assert names("calls") == names("call_keys") == {"just now", "elsewhere"}


def test_an_episode_of_which_something_was_heard_lately_stays_whole() -> None:
    old()
    spoken("goes on")
    with transaction() as session:
        insert(session, [NewCall("c2", "goes on", 1, "main", "m", "alice", [], SAID)])
    assert removed() == {}


def test_reports_that_no_window_collected_go_after_as_many_days() -> None:
    old()
    with transaction() as session:
        add_line(session, "other", None)
    for name, days, line in (("old", 31, "main"), ("young", 29, "main"), ("elsewhere", 31, "other")):
        reported(name, days, line)
    assert removed() == {"recordings": 1, "turns": 1}
    assert names("recordings") == names("turns") == {"young", "elsewhere"}


def test_a_refusal_stays() -> None:
    old()
    with transaction() as session:
        recordings.store(session, [Start("t", "alice", consent=False)])
    run("update rlfleet.recordings set created_at = '2025-01-15Z'")
    assert removed() == {}
    assert run("select trajectory_id, consent from rlfleet.recordings") == [("t", False)]


def test_a_line_whose_old_hours_are_being_collected_waits() -> None:
    old(state="closed")
    spoken("long ago")
    holder = job("collect", window=HOUR)
    assert removed() == {}
    run("update rlfleet.jobs set state = 'succeeded' where id = :id", id=holder)
    assert removed()["calls"] == 1


def test_excerpts_of_unusable_rows_go_and_their_counts_stay() -> None:
    window = old("a", days=20)
    with transaction() as session:
        line = add_line(session, days=20)
        quarantined(session, line, window, "1", "what it said")
        quarantined(session, line, window, "2", "what it says")
    run("update rlfleet.quarantine set created_at = now() - interval '21 days' where \"row\" = '1'")
    assert removed()["excerpts"] == 1
    assert run('select "row", excerpt, reason from rlfleet.quarantine order by 1') == [
        ("1", "", "must be a number"),
        ("2", "what it says", "must be a number"),
    ]


@pytest.mark.parametrize(("days", "goes"), [((10, 20), True), ((10, 40), False), ((10, None), False)])
def test_judgements_and_feedback_on_nothing_go_when_no_line_keeps_them(
    days: tuple[int, int | None], goes: bool
) -> None:
    with transaction() as session:
        for name, number in zip(("main", "other"), days, strict=True):
            add_line(session, name, number)
        give(session, [NewFeedback("f", "unknown", None, "rating", 1.0, comment="bad")], AT)
    run(
        """insert into rlfleet.judgements
           (request_sha256, judge, answer, prompt_tokens, completion_tokens, cost, created_at)
           values ('x', 'j', '{}', 1, 1, 1.0, now() - interval '30 days'), ('y', 'j', '{}', 1, 1, 1.0, now())"""
    )
    run("update rlfleet.feedback set created_at = now() - interval '30 days'")
    assert removed() == ({"judgements": 1, "feedback": 1} if goes else {})
    assert set(run("select request_sha256 from rlfleet.judgements")) == ({"y"} if goes else {"x", "y"})


def test_old_feedback_on_what_stays_stays() -> None:
    old("a")
    run("update rlfleet.feedback set created_at = '2025-01-15Z'")
    job("score", window=HOUR)
    assert removed() == {}
    assert left() == {"a"}
