from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.lint import Lint, lint, nearest
from rl.published import read_rows
from tests.rl.published_run import SIZES, SUCCESSES, published


def linted(types: dict[str, Any], overall: float | None = None) -> Any:
    return lint(read_rows([{"step": 7, "types": types, "overall": overall}])[0])


def rate(value: float, n: int) -> dict[str, float]:
    return {"rate": value, "n": n}


def test_the_published_run_becomes_counts_and_update_is_flagged_at_13_and_26() -> None:
    found = {row.step: lint(row) for row in read_rows(published())}
    for step, successes in SUCCESSES.items():
        assert found[step].counts == dict(zip(SIZES, zip(successes, SIZES.values(), strict=True), strict=True))
        assert found[step].unresolved == ""
    flags = [flag for one in found.values() for flag in one.lint]
    assert flags == [Lint(step=step, type="update", published=0.125, k=2, n=6) for step in (13, 26)]


@pytest.mark.parametrize(
    ("value", "n", "expected"),
    [
        (0.4546, 11, (5, True)),  # rounded up
        (0.4545, 11, (5, True)),
        (0.1250, 6, (1, False)),
        (0.001, 10, (0, True)),  # at the tolerance
        (0.0011, 10, (0, False)),
        (0.999, 1, (1, True)),
        (1.0, 10**9, (10**9, True)),
        (0.5, 1, (1, False)),
    ],
)
def test_nearest(value: float, n: int, expected: tuple[int, bool]) -> None:
    assert nearest(value, n) == expected


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([3, 4, 6, 16]))
def test_a_rounded_rate_is_its_count(count: tuple[int, int], digits: int) -> None:
    k, n = count
    assert nearest(round(k / n, digits), n) == (k, True)


def test_one_impossible_cell_is_what_the_overall_leaves() -> None:
    found = linted({"a": rate(0.25, 10), "b": {"k": 4, "n": 10}}, 0.3)
    assert found.counts == {"a": (2, 10), "b": (4, 10)}
    assert found.lint == [Lint(step=7, type="a", published=0.25, k=2, n=10)]


@pytest.mark.parametrize(
    ("types", "overall", "flagged", "reason"),
    [
        (
            {"a": rate(0.25, 10), "b": rate(0.4, 10)},
            None,
            [("a", None)],
            "a 0.25 is no count of 10, and there is no overall",
        ),
        ({"a": rate(0.25, 10), "b": rate(0.25, 6)}, 0.25, [("a", None), ("b", None)], "2 cells cannot be counts"),
        ({"a": rate(0.25, 10), "b": rate(0.9, 10)}, 0.2, [("a", None)], "the overall 4/20 leaves -5 of 10"),
        ({"a": rate(0.25, 10), "b": rate(0.1, 10)}, 0.9, [("a", None)], "the overall 18/20 leaves 17 of 10"),
        (
            {"a": rate(0.25, 10), "b": rate(0.4, 10)},
            0.33,
            [("a", None), ("overall", None)],
            "neither can the overall 0.33",
        ),
        (
            {"a": rate(0.5, 10), "b": rate(0.4, 10)},
            0.5,
            [("overall", None)],
            "types add up to 9/20, its overall says 10/20",
        ),
        ({"a": rate(0.5, 10), "b": rate(1, 40)}, 0.74, [("overall", None)], "add up to 45/50, its overall says 37/50"),
        ({"a": rate(0.5, 10), "b": rate(0.9, 30)}, 0.7, [("overall", None)], "mean of the types' rates: leave it out"),
    ],
)
def test_rows_that_nobody_can_resolve(
    types: dict[str, Any], overall: float | None, flagged: list[tuple[str, int | None]], reason: str
) -> None:
    found = linted(types, overall)
    assert [(flag.type, flag.k) for flag in found.lint] == flagged
    assert reason in found.unresolved


def test_an_overall_that_cannot_be_is_what_the_types_add_up_to() -> None:
    found = linted({"a": rate(0.5, 10), "b": rate(0.4, 10)}, 0.47)
    assert (found.unresolved, found.lint) == ("", [Lint(step=7, type="overall", published=0.47, k=9, n=20)])


def test_counts_are_believed() -> None:
    """A rate or an overall beside them is flagged, and changes nothing."""
    found = linted({"a": {"k": 5, "n": 10, "rate": 0.6}, "b": {"k": 4, "n": 10}}, 0.5)
    assert found.counts == {"a": (5, 10), "b": (4, 10)}
    assert [(flag.type, flag.k) for flag in found.lint] == [("a", 5), ("overall", 9)]
    assert found.unresolved == ""


def test_nothing_judged_is_nothing_wrong() -> None:
    assert linted({"a": None}, 0.5).lint == []
    assert linted({}, 0.5).counts == {}


@given(
    st.lists(
        st.integers(1, 40).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), min_size=1, max_size=5
    ).filter(lambda counts: sum(n for _, n in counts) <= 150)
)
def test_honest_rates_are_never_flagged(counts: list[tuple[int, int]]) -> None:
    types = {f"t{i}": rate(round(k / n, 4), n) for i, (k, n) in enumerate(counts)}
    overall = round(sum(k for k, _ in counts) / sum(n for _, n in counts), 4)
    found = linted(types, overall)
    assert (found.lint, found.unresolved) == ([], "")
    assert list(found.counts.values()) == counts
