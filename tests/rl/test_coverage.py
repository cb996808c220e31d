from __future__ import annotations

import pytest

from rl.coverage import Counts, coverage

FULL = {"a": (5, 20), "b": (3, 10)}


def test_all_on_the_same_scenarios() -> None:
    found = coverage({0: FULL, 13: FULL})
    assert (found.sizes, found.share, found.unresolved) == ({"a": 20, "b": 10}, {0: 1.0, 13: 1.0}, {})


def test_one_verdict_of_twenty_may_be_missing() -> None:
    found = coverage({0: FULL, 13: {"a": (5, 19), "b": (3, 10)}})
    assert found.share[13] == pytest.approx(29 / 30)
    assert found.unresolved == {}


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ({"a": (5, 18), "b": (3, 10)}, "only 18 of 20 verdicts of a; at least 95% are needed"),
        ({"a": (5, 10), "b": (3, 5)}, "only 10 of 20 verdicts of a and 5 of 10 verdicts of b"),
        ({"a": (5, 20)}, "only 0 of 10 verdicts of b"),
        ({"a": (5, 20), "b": (0, 0)}, "only 0 of 10 verdicts of b"),
        ({"a": (5, 20), "c": (3, 10)}, "judged on c too, which the others were not"),
        (FULL | {"c": (1, 1)}, "judged on c too"),
        ({}, "no verdicts"),
        ({"a": (0, 0)}, "no verdicts"),
    ],
)
def test_a_row_that_cannot_be_compared_is_left_out(counts: Counts, reason: str) -> None:
    found = coverage({0: FULL, 13: counts, 21: FULL})
    assert list(found.unresolved) == [13]
    assert found.unresolved[13].startswith(reason)
    assert found.sizes == {"a": 20, "b": 10}


def test_of_two_task_sets_step_0_has_the_right_one() -> None:
    assert list(coverage({0: FULL, 13: {"a": (5, 20)}}).unresolved) == [13]
    assert list(coverage({0: {"a": (5, 20)}, 13: FULL}).unresolved) == [13]
    assert list(coverage({5: {"a": (5, 20)}, 13: FULL}).unresolved) == [5]


def test_most_rows_have_the_right_one() -> None:
    assert list(coverage({0: {"a": (5, 20)}, 13: FULL, 21: FULL}).unresolved) == [0]


def test_scenarios_without_a_verdict_count() -> None:
    assert coverage({0: FULL}, {"a": 22}).unresolved[0].startswith("only 20 of 22 verdicts of a")
    assert coverage({0: FULL}, {"a": 21}).unresolved == {}


def test_nothing_judged() -> None:
    assert coverage({}).sizes == {}
    assert coverage({0: {}, 1: {"a": (0, 0)}}).unresolved == {0: "no verdicts", 1: "no verdicts"}
