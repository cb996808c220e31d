"""A long trajectory page by page: its first calls in order, with texts where they are looked at, and all counts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from db import calls, partitions, trajectories, trajectory_pages, trajectory_views
from db.session import transaction
from rl.errors import InvalidInput
from rl.records import Call, Message
from rl.windows import parse
from tests.db.test_lineage import HOUR, add_window, episode, judged
from tests.db.trained import add_line

CALLS = 230


@pytest.fixture
def session(fresh: str) -> Iterator[Session]:
    with transaction() as opened:
        yield opened


def long(name: str) -> list[Call]:
    """Every call goes on from the one before, and the last is of another model."""
    return [
        Call(
            call_id=f"c-{name}-{turn:03}",
            turn=turn,
            model="other" if turn == CALLS - 1 else "v1",
            messages=[Message(role="user", content=f"go {turn}")],
            response=Message(role="assistant", content=f"did {turn}"),
            prompt_token_ids=[7, turn],
            token_ids=[turn, turn, turn],
            logprobs=[-0.5] * 3,
        )
        for turn in range(CALLS)
    ]


def fill(session: Session) -> None:
    line = add_line(session)
    add_window(session, line, HOUR, [episode("a1").model_copy(update={"calls": long("a1")}), episode("a2")])


def test_a_page_has_its_calls_with_texts_and_those_before_without(session: Session) -> None:
    fill(session)
    found = trajectory_pages.one(session, "a1", page=3, size=10)
    assert [call.turn for call in found.calls] == list(range(30))
    assert [call.response.content for call in found.calls[17:22]] == [None, None, "did 19", "did 20", "did 21"]
    assert [len(call.messages) for call in found.calls[17:22]] == [0, 0, 1, 1, 1]
    assert [call.token_ids for call in found.calls[:2]] == [[0, 0, 0], [1, 1, 1]]
    assert found.counts == {"calls": 230, "scores": 0, "feedback": 0, "known": 0}
    assert (found.models, found.tokens) == (["other", "v1"], (460, 690))


def test_the_first_calls_can_be_looked_at_and_all_are_counted(session: Session) -> None:
    fill(session)
    last = trajectory_pages.one(session, "a1", page=20, size=10)
    assert ([call.turn for call in last.calls[-2:]], len(last.calls)) == ([198, 199], 200)
    beyond = trajectory_pages.one(session, "a1", page=21, size=10)
    assert (beyond.calls, beyond.counts["calls"]) == ([], 230)
    other = trajectory_pages.one(session, "a2")
    assert (other.counts["calls"], other.models, other.tokens) == (1, ["gpt-4o"], None)
    with pytest.raises(InvalidInput, match="no trajectory has this id"):
        trajectory_pages.one(session, "nobody")


def test_scores_feedback_and_outcomes_say_how_many_there_are(session: Session) -> None:
    fill(session)
    trajectories.insert_scores(session, [judged("a1", place / 60, version=str(place)) for place in range(60)])
    session.execute(
        text("""
            insert into rlfleet.feedback (feedback_id, trajectory_id, name, value, at)
            select 'f' || n, 'a1', 'like', n, now() from generate_series(1, 70) n
        """)
    )
    found = trajectory_pages.one(session, "a1")
    assert found.counts == {"calls": 230, "scores": 60, "feedback": 70, "known": 0}
    assert ([one["method_version"] for one in found.scores[:2]], len(found.scores)) == (["59", "58"], 50)
    assert ([one["value"] for one in found.feedback[:2]], len(found.feedback)) == ([70, 69], 50)


def test_the_first_answers_of_each_stand_beside(session: Session) -> None:
    fill(session)
    group = trajectory_views.group_of(session, trajectory_pages.one(session, "a2"))
    said = {one["trajectory_id"]: [answer["content"] for answer in one["said"]] for one in group.members}
    assert said == {"a2": ["x"], "a1": [f"did {turn}" for turn in range(12)]}
    assert {one["trajectory_id"]: one["calls"] for one in group.members} == {"a1": 230, "a2": 1}


def test_reading_the_first_calls_stops_there(session: Session) -> None:
    fill(session)
    session.execute(text("analyze"))
    at = parse(HOUR).hour
    assert at is not None
    where = {"id": "a1", "limit": 10, "texts_from": -1} | partitions.bounds(at)
    plan = session.execute(text(f"explain (analyze, format json) {calls.FIRST_OF.text}"), where).scalar_one()
    assert rows_read(plan) < 100


def rows_read(plan: object) -> int:
    """The most rows that a scan of the plan returned."""
    if isinstance(plan, list):
        return max(map(rows_read, plan), default=0)
    if not isinstance(plan, dict):
        return 0
    own = int(plan.get("Actual Rows", 0)) if "Scan" in str(plan.get("Node Type", "")) else 0
    return max([own, *(rows_read(value) for value in plan.values() if isinstance(value, list | dict))])
