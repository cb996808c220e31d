from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.config import LineConfig
from rl.late import Hour, Late, Policy, Reading, admits, countable, heeds, readings
from rl.records import Action, Trajectory, Turn
from rl.scoring import ScoreRow, scores
from rl.scoring_config import Judge, Scoring

MOMENT = datetime(2025, 1, 15, 10, tzinfo=UTC)
STATES = ("collected", "scored", "trained", "skipped")


def hour(**fields: Any) -> Hour:
    return Hour(**({"name": "w", "state": "scored", "age": 1.0, "rows_read": 2} | fields))


@pytest.mark.parametrize(
    ("policy", "training", "admitted"),
    [
        ("reopen", None, STATES),
        ("reopen", "done", STATES),
        ("extend", None, ("collected", "scored", "skipped")),
        ("extend", "done", ()),
        ("extend", "live", ()),
        ("ignore", None, ()),
    ],
)
def test_each_policy_takes_late_rows_in_its_states(policy: Policy, training: Any, admitted: tuple[str, ...]) -> None:
    found = [one for one in ("open", "closed", *STATES) if admits(policy, hour(state=one, training=training))]
    assert tuple(found) == admitted


@pytest.mark.parametrize(
    ("fields", "held", "wanted"),
    [
        ({}, {"w": 3}, [Reading("w", rows=3)]),
        ({}, {"w": 2}, []),
        ({}, {"w": 1}, []),
        ({}, {}, []),
        ({"state": "skipped", "rows_read": 0}, {"w": 1}, [Reading("w", rows=1)]),
        ({"training": "done", "state": "trained"}, {"w": 3}, [Reading("w", rows=3)]),
        ({"training": "live"}, {"w": 3}, []),
        ({"age": 71.9}, {"w": 3}, [Reading("w", rows=3)]),
        ({"age": 72.0}, {"w": 3}, []),
    ],
)
def test_a_window_is_read_again_when_its_source_has_more_rows(
    fields: dict[str, Any], held: Mapping[str, int], wanted: list[Reading]
) -> None:
    assert readings(Late(), [hour(**fields)], held) == wanted


@pytest.mark.parametrize(
    ("age", "after"),
    [(23.9, None), (24.0, 24.0), (47.9, 24.0), (48.0, 48.0), (119.9, 48.0), (120.0, None)],
)
def test_outcomes_are_read_at_the_latest_moment_that_has_come_for_three_days(age: float, after: float | None) -> None:
    late = Late(outcomes_after=(24, 48), policy="ignore")
    expected = [] if after is None else [Reading("w", after_hours=after)]
    assert late.farthest == 120
    for state in ("collected", "scored", "trained"):
        assert readings(late, [hour(age=age, state=state)], {"w": 99}) == expected
    assert readings(late, [hour(age=age, state="skipped")], {}) == []
    assert readings(late, [hour(age=age, training="live")], {}) == []


HOURS = st.lists(
    st.builds(
        Hour,
        name=st.sampled_from("abcdef"),
        state=st.sampled_from(STATES),
        age=st.floats(0, 200),
        rows_read=st.integers(0, 5),
        training=st.sampled_from([None, "live", "done"]),
    ),
    unique_by=lambda one: one.name,
)
CONFIGS = st.builds(
    Late,
    policy=st.sampled_from(["reopen", "extend", "ignore"]),
    hours=st.floats(1, 100),
    outcomes_after=st.lists(st.floats(0.5, 90), max_size=3).map(tuple),
)


@given(CONFIGS, HOURS, st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 9)))
def test_what_was_read_is_not_asked_for_again_and_no_training_is_disturbed(
    late: Late, hours: list[Hour], held: dict[str, int]
) -> None:
    by_name = {one.name: one for one in hours}
    asked = readings(late, hours, held)
    assert len(asked) == len({(one.window, one.rows is None) for one in asked})
    for one in asked:
        assert by_name[one.window].training != "live"
        assert by_name[one.window].age < late.farthest
    read = [Hour(one.name, one.state, one.age, max(one.rows_read, held.get(one.name, 0))) for one in hours]
    assert [one for one in readings(late, read, held) if one.rows is not None] == []
    assert {one.window for one in asked if one.rows is not None} <= {one.name for one in countable(late, hours)}


def played(outcome: dict[str, Any]) -> Trajectory:
    """One trade of an agent whose state says its money, with what became known of it."""
    seen = {"agentPnL": 5.0, "agentBalance": 1000.0}
    action = Action(kind="BUY_SHARES", parameters={"side": "YES"}, success=True)
    turn = Turn(turn=0, state=seen, action=action, outcome=outcome)
    return Trajectory(
        trajectory_id="t",
        scenario_id="s",
        agent_id="a",
        started_at=MOMENT,
        ended_at=MOMENT,
        reward=0.5,
        calls=[],
        turns=[turn],
        metadata={"outcome": outcome} if outcome else {},
    )


SCORINGS = [
    Scoring(),
    *(Scoring(method="heuristic", variant=one) for one in ("agent", "service", "archetype")),
    *(
        Scoring(method="composite", weights={"reward": 1.0, one: 1.0})
        for one in ("agent", "service", "archetype", "feedback", "outcome")
    ),
    Scoring(method="composite", weights={"reward": 1.0, "feedback": 0.0, "outcome": 0.0, "service": 0.0}),
]


@pytest.mark.parametrize("scoring", SCORINGS, ids=repr)
def test_a_scoring_heeds_exactly_what_changes_its_scores(scoring: Scoring) -> None:
    wrong, right = {"actualOutcome": "NO"}, {"actualOutcome": "YES"}

    def score(outcome: dict[str, Any], rating: float = 0.0) -> Any:
        (row,) = scores([played(outcome)], scoring, {"t": rating})
        return (row.score, row.input_hash) if isinstance(row, ScoreRow) else None

    found = heeds(scoring)
    assert found.outcomes == (score(wrong) != score(right))
    assert found.feedback == (score(right) != score(right, 1.0))
    assert found.anything == (found.outcomes or found.feedback)


def test_a_judge_heeds_outcomes_where_it_sees_them_or_its_fallback_does() -> None:
    def found(**fields: Any) -> bool:
        shown = fields.pop("judge_sees_outcomes", False)
        return heeds(Scoring(method="judge", judge=Judge(model="m", judge_sees_outcomes=shown), **fields)).outcomes

    assert [found(), found(judge_sees_outcomes=True)] == [False, True]
    assert found(fallback="heuristic", variant="service")
    assert not found(fallback="heuristic", variant="agent")


def test_a_line_that_says_nothing_of_late_rows_is_stored_as_before() -> None:
    line = LineConfig(base_model="m")
    assert "late" not in line.model_dump(mode="json")
    told = LineConfig(base_model="m", late=Late(policy="extend", outcomes_after=(24,))).model_dump(mode="json")
    assert told["late"] == {"policy": "extend", "hours": 72.0, "outcomes_after": [24.0]}
    assert LineConfig.model_validate(told).late.outcomes_after == (24.0,)
