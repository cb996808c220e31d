from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from rl.errors import InvalidInput
from rl.paired import Pairs, bootstrap_better, exact_p, pair

verdicts = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from([True, False, None]))


def test_pairs_are_counted_where_both_have_a_verdict() -> None:
    first = {"a": True, "b": True, "c": False, "d": False, "e": None, "f": True, "x": True}
    second = {"a": True, "b": False, "c": True, "d": False, "e": True, "f": None, "y": True}
    found = pair(first, second)
    assert found == Pairs(both=1, only_first=1, only_second=1, neither=1)
    assert found.n == 4
    assert sorted(found.differences) == [-1, 0, 0, 1]


@given(verdicts, verdicts)
def test_the_other_way_round_is_the_mirror(first: dict[str, bool | None], second: dict[str, bool | None]) -> None:
    one, other = pair(first, second), pair(second, first)
    assert (one.only_first, one.only_second, one.both, one.neither) == (
        other.only_second,
        other.only_first,
        other.both,
        other.neither,
    )
    assert bootstrap_better(one.differences) + bootstrap_better(other.differences) == pytest.approx(1, abs=1e-12)


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_exact_test_is_scipys(first: int, second: int) -> None:
    expected = 1.0 if first + second == 0 else binomtest(first, first + second).pvalue
    assert exact_p(first, second) == pytest.approx(expected, abs=1e-12)


def test_the_exact_test_by_hand() -> None:
    """5 against 1: 2 (1 + 6) / 64."""
    assert exact_p(5, 1) == exact_p(1, 5) == pytest.approx(14 / 64)
    with pytest.raises(InvalidInput, match="0 <= k <= n"):
        exact_p(-1, 3)


@pytest.mark.parametrize("observed", [[1], [0, 1], [1, -1, 0], [1, 1, -1, 0], [2, -1, 0, 0], [3, -2, -2, 1]])
def test_the_bootstrap_is_all_samples_there_are(observed: list[int]) -> None:
    sums = np.array([sum(sample) for sample in product(observed, repeat=len(observed))])
    assert bootstrap_better(observed) == pytest.approx(np.mean(sums > 0) + np.mean(sums == 0) / 2, abs=1e-12)


def test_the_bootstrap_agrees_with_sampling() -> None:
    observed = np.array([1] * 9 + [-1] * 5 + [0] * 19)
    drawn = np.random.default_rng(0).choice(observed, size=(100_000, 33)).sum(axis=1)
    expected = np.mean(drawn > 0) + np.mean(drawn == 0) / 2
    assert bootstrap_better(observed.tolist()) == pytest.approx(expected, abs=0.006)


def test_the_bootstrap_of_many_scenarios_is_normal() -> None:
    """2,600 against 2,400 of 100,000: mean 200, variance 5,000 - 0.4."""
    observed = [1] * 2600 + [-1] * 2400 + [0] * 95_000
    assert bootstrap_better(observed) == pytest.approx(0.99766, abs=2e-5)


def test_nothing_and_no_difference_tell_nothing() -> None:
    assert bootstrap_better([]) == 0.5
    assert bootstrap_better([0, 0, 0]) == 0.5
    with pytest.raises(InvalidInput, match="whole numbers"):
        bootstrap_better([0.5])  # type: ignore[list-item]
