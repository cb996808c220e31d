from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.published_shaping import reward, samples
from rl.reward_lint import Kind, Name, Sampled, Status, lint


@pytest.mark.parametrize(
    ("python_turns", "right", "wrong"),
    [
        (0, 1.0, 0.1),
        (1, 1.45, 0.53),
        (2, 1.6425, 0.7025),
        (3, 1.7775, 0.8175),
        (4, 1.855, 0.875),
        (7, 1.9, 0.905),
    ],
)
def test_the_published_shaping_is_worth_what_was_published(python_turns: int, right: float, wrong: float) -> None:
    assert reward(python_turns, 1.0) == pytest.approx(right, abs=5e-5)
    assert reward(python_turns, 0.0) == pytest.approx(wrong, abs=5e-5)


def test_never_to_reply_is_worth_more_than_an_early_wrong_reply_as_published() -> None:
    assert reward(8, None) == pytest.approx(0.705)


def test_the_published_shaping_is_flagged() -> None:
    found = {one.rule: one for one in lint(samples())}
    assert {rule: (one.status, one.pairs) for rule, one in found.items()} == {
        "short": ("broken", 28),
        "right": ("holds", 64),
        "silent": ("holds", 8),
        "answer": ("broken", 8),
    }
    short, answer = found["short"].fault, found["answer"].fault
    assert short is not None
    assert answer is not None
    assert short.pairs == 28, "of 8 right episodes every pair: each is worth more than all shorter ones"
    assert (short.better.turns, short.worse.turns) == (1, 8)
    assert answer.pairs == 3, "wrong after 0, 1 and 2 turns: .1, .53 and .7025 beside .705"


def one(
    kind: Kind,
    turns: int,
    worth: float,
    scenario: str = "a",
    success: float | None = None,
    by_reward: bool = False,
) -> Sampled:
    return Sampled(scenario, kind, turns, worth, success=success, by_reward=by_reward)


CLEAN = [one("right", 1, 1.0), one("right", 5, 1.0), one("wrong", 2, 0.0), one("silent", 8, 0.0)]


def _statuses(rows: Iterable[Sampled]) -> dict[str, Status]:
    return {tested.rule: tested.status for tested in lint(rows)}


def test_a_clean_reward_keeps_every_rule() -> None:
    assert [(tested.rule, tested.pairs, tested.status, tested.passed) for tested in lint(CLEAN)] == [
        ("short", 1, "holds", True),
        ("right", 2, "holds", True),
        ("silent", 2, "holds", True),
        ("answer", 1, "holds", True),
    ]


@pytest.mark.parametrize(
    ("worse", "rule"),
    [
        (one("right", 3, 1.1), "short"),
        (one("wrong", 1, 1.0), "right"),
        (one("silent", 8, 1.0), "silent"),
        (one("silent", 8, 0.3), "answer"),
    ],
)
def test_each_rule_is_checked_by_itself(worse: Sampled, rule: str) -> None:
    faults = {tested.rule: tested.fault for tested in lint([one("right", 2, 1.0), one("wrong", 2, 0.2), worse])}
    assert faults[rule] is not None  # type: ignore[index]
    assert all(fault.worse == worse for fault in faults.values() if fault is not None)


def test_a_rule_without_a_pair_is_untested_and_has_not_passed() -> None:
    without = {kind: [row for row in CLEAN if row.kind != kind] for kind in ("right", "wrong", "silent")}
    assert _statuses(without["wrong"]) == {
        "short": "holds",
        "right": "untested",
        "silent": "holds",
        "answer": "untested",
    }
    assert _statuses(without["right"]) == {
        "short": "untested",
        "right": "untested",
        "silent": "untested",
        "answer": "holds",
    }
    assert set(_statuses([]).values()) == {"untested"}
    assert not any(tested.passed for tested in lint([]))


def test_episodes_of_one_length_have_none_that_is_shorter() -> None:
    rows = [one("right", 1, 1.0), one("right", 1, 1.0), one("wrong", 1, 0.0), one("silent", 1, 0.0)]
    assert _statuses(rows)["short"] == "inapplicable"
    assert all(tested.passed for tested in lint(rows))
    assert _statuses([*rows, one("wrong", 2, 0.0)])["short"] == "untested"


@pytest.mark.parametrize(("kind", "rule"), [("wrong", "right"), ("silent", "silent")])
def test_what_is_not_right_must_not_reach_success(kind: Kind, rule: Name) -> None:
    """0.6 is less than 1, and still a success where 0.5 is one."""
    for success, broken in ((0.5, True), (0.7, False)):
        found = {
            row.rule: row for row in lint([one("right", 1, 1.0, success=success), one(kind, 3, 0.6, success=success)])
        }
        assert (found[rule].status == "broken") is broken
    fault = {row.rule: row.fault for row in lint([one("right", 1, 1.0, success=0.5), one(kind, 3, 0.6, success=0.5)])}[
        rule
    ]
    assert fault is not None
    assert fault.words().endswith(" of 3 turns is worth 0.6, a right episode of 1 turn 1, and 0.5 is a success")


def test_what_is_right_must_reach_success() -> None:
    rows = [one("right", 1, 0.4, success=0.5), one("wrong", 1, 0.0, success=0.5)]
    assert _statuses(rows)["right"] == "broken"


def test_pairs_that_the_reward_alone_tells_apart_are_counted() -> None:
    told = [row._replace(by_reward=True) for row in CLEAN]
    assert {row.rule: row.by_construction for row in lint(told)} == {"short": 0, "right": 2, "silent": 0, "answer": 0}
    assert all(row.by_construction == 0 for row in lint(CLEAN))


def test_only_episodes_of_one_scenario_are_compared() -> None:
    rows = [one("right", 1, 0.4, "hard"), one("wrong", 2, 0.6, "easy")]
    assert set(_statuses(rows).values()) == {"untested"}


@given(
    st.lists(st.tuples(st.sampled_from(["right", "wrong", "silent"]), st.integers(1, 8), st.floats(0, 1)), max_size=12)
)
def test_a_fault_is_a_pair_that_was_given(rows: list[tuple[Kind, int, float]]) -> None:
    given_rows = [one(*row) for row in rows]
    for tested in lint(given_rows):
        assert (tested.status == "broken") is (tested.fault is not None)
        if tested.fault is not None:
            assert {tested.fault.better, tested.fault.worse} <= set(given_rows)
            assert 1 <= tested.fault.pairs <= tested.pairs
            assert tested.fault.worse.reward >= tested.fault.better.reward - 1e-9
