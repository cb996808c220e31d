from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta

from rl.errors import InvalidInput
from rl.selection import Candidate, probability_better, select

PUBLISHED = {0: (9, 0, 4), 13: (15, 2, 5), 21: (15, 4, 3), 26: (13, 2, 3), 38: (10, 3, 3)}
"""Successes of retrieval (16), update (6) and clarification (11) at each step."""

small = st.integers(0, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def _published() -> list[Candidate]:
    sizes = {"retrieval": 16, "update": 6, "clarification": 11}
    return [
        Candidate(step=step, types={name: (k, n) for (name, n), k in zip(sizes.items(), ks, strict=True)})
        for step, ks in PUBLISHED.items()
    ]


def _one(step: int, k: int, n: int = 100, turns: float | None = None) -> Candidate:
    return Candidate(step=step, types={"all": (k, n)}, turns=turns)


def _two(step: int, a: int, b: int, n: int = 100, turns: float | None = None) -> Candidate:
    return Candidate(step=step, types={"a": (a, n), "b": (b, n)}, turns=turns)


@pytest.mark.parametrize(("k2", "expected"), [(18, 0.8392), (16, 0.9297), (13, 0.9860), (22, 0.5)])
def test_published_probabilities(k2: int, expected: float) -> None:
    assert probability_better(22, 33, k2, 33) == pytest.approx(expected, abs=5e-5)


def test_probabilities_with_a_closed_form() -> None:
    """One success against one failure: integral of 2p (2p - p^2) dp = 5/6; against nothing known: 2/3."""
    assert probability_better(1, 1, 0, 1) == pytest.approx(5 / 6)
    assert probability_better(1, 1, 0, 0) == pytest.approx(2 / 3)
    assert probability_better(0, 0, 0, 0) == pytest.approx(1 / 2)


@given(small, small)
def test_one_of_two_is_better(one: tuple[int, int], other: tuple[int, int]) -> None:
    assert probability_better(*one, *other) + probability_better(*other, *one) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("one", "other"), [((160, 200), (150, 200)), ((3, 11), (4, 11)), ((900, 1000), (60, 70))])
def test_the_sum_is_the_integral(one: tuple[int, int], other: tuple[int, int]) -> None:
    (k1, n1), (k2, n2) = one, other
    expected, _ = quad(
        lambda p: beta.pdf(p, 1 + k1, 1 + n1 - k1) * beta.cdf(p, 1 + k2, 1 + n2 - k2), 0, 1, points=[k1 / n1]
    )
    assert probability_better(*one, *other) == pytest.approx(expected, abs=1e-8)


def test_large_counts_stay_exact() -> None:
    assert probability_better(50_000, 100_000, 50_000, 100_000) == pytest.approx(0.5, abs=1e-8)


@given(small.filter(lambda count: count[0] < count[1]), small)
def test_one_more_success_is_better(one: tuple[int, int], other: tuple[int, int]) -> None:
    k, n = one
    assert probability_better(k + 1, n, *other) > probability_better(k, n, *other) - 1e-12


def test_the_published_run_picks_step_21_from_the_tie_of_13_and_21() -> None:
    selection = select(_published())
    assert (selection.pick, selection.tie_set, selection.vetoed) == (21, [13, 21], {})
    assert selection.posterior == pytest.approx({0: 14 / 35, 13: 23 / 35, 21: 23 / 35, 26: 19 / 35, 38: 17 / 35})
    assert selection.probability == pytest.approx({0: 0.9860, 13: 0.5, 21: 0.5, 26: 0.8392, 38: 0.9297}, abs=5e-5)
    assert "do not tell steps 13, 21 apart" in selection.reason


def test_the_order_of_the_candidates_does_not_matter() -> None:
    expected = select(_published())
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(5)
        assert select([_published()[i] for i in order]) == expected


def test_no_improvement_is_an_answer() -> None:
    selection = select([_one(0, 80), _one(10, 50), _one(20, 60)])
    assert (selection.pick, selection.tie_set) == (0, [0])
    assert selection.reason == "step 0 (80/100) is credibly better than every other"


def test_a_type_credibly_below_step_0_is_a_veto() -> None:
    selection = select([_two(0, 50, 50), _two(10, 100, 40), _two(20, 60, 50)])
    assert selection.pick == 20
    assert selection.vetoed == {10: "b 40/100 against 50/100 at step 0 (P worse 0.921)"}
    assert 10 not in selection.probability
    assert 10 in selection.posterior


def test_a_type_that_may_be_below_step_0_is_no_veto() -> None:
    assert select([_two(0, 50, 50), _two(10, 100, 47)]).pick == 10


@pytest.mark.parametrize(
    ("one", "other", "pick"),
    [
        (_two(10, 80, 60), _two(20, 70, 70), 20),  # the macro mean is the same, the weakest type decides
        (_two(10, 70, 70, turns=2.5), _two(20, 70, 70, turns=2.0), 20),
        (_two(10, 70, 70), _two(20, 70, 70, turns=9.0), 20),  # unknown turns come last
        (_two(10, 70, 70), _two(20, 70, 70), 10),
    ],
)
def test_ties_are_broken_in_order(one: Candidate, other: Candidate, pick: int) -> None:
    selection = select([_two(0, 50, 50), one, other])
    assert (selection.pick, selection.tie_set) == (pick, [10, 20])


def test_the_macro_mean_comes_before_the_micro_mean_inside_a_tie() -> None:
    def candidate(step: int, large: int, few: int) -> Candidate:
        return Candidate(step=step, types={"large": (large, 90), "few": (few, 10)})

    selection = select([candidate(0, 30, 3), candidate(10, 60, 5), candidate(20, 58, 7)])
    assert (selection.pick, selection.tie_set) == (20, [10, 20])


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=5))
def test_the_pick_is_tied_with_the_best_and_not_vetoed(counts: list[tuple[int, int]]) -> None:
    candidates = [_two(10 * i, a, b, n=30) for i, (a, b) in enumerate(counts)]
    selection = select(candidates)
    assert selection.pick in selection.tie_set
    assert set(selection.tie_set).isdisjoint(selection.vetoed)
    assert set(selection.probability) | set(selection.vetoed) == {c.step for c in candidates}
    assert all(0.5 - 1e-9 <= p <= 1 for p in selection.probability.values())


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ([], "step 0"),
        ([_one(10, 5)], "step 0"),
        ([_one(0, 5), _one(0, 6)], "each step once"),
        ([_one(0, 5), _two(10, 5, 5)], "was judged on"),
        ([_one(0, 50), _one(10, 50, n=94)], "only 94 of 100 verdicts at step 10"),
        ([_one(0, 0, n=0)], "only 0 of 0"),
        ([_one(0, 5, n=4)], "0 <= k <= n"),
    ],
)
def test_what_cannot_be_compared_is_refused(candidates: list[Candidate], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        select(candidates)


def test_a_few_missing_verdicts_are_tolerated() -> None:
    assert select([_one(0, 30), _one(10, 60, n=95)]).pick == 10
