from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from rl.comparison import probability_better
from rl.errors import InvalidInput
from rl.intervals import beta_interval
from rl.selection import Candidate, rank
from rl.weighted import Weighted
from tests.rl.published_run import SIZES, SUCCESSES

EQUAL = dict.fromkeys(SIZES, 1.0)
PUBLISHED = [
    Candidate(step=step, types=dict(zip(SIZES, zip(ks, SIZES.values(), strict=True), strict=True)))
    for step, ks in SUCCESSES.items()
]


def one(step: int, **types: tuple[int, int]) -> Candidate:
    return Candidate(step=step, types=types)


def test_published_probabilities_of_the_best_macro_mean() -> None:
    found = dict(zip(SUCCESSES, Weighted(PUBLISHED, EQUAL).best(PUBLISHED), strict=True))
    assert found[21] == pytest.approx(0.56, abs=5e-3)
    assert found[13] == pytest.approx(0.33, abs=5e-3)
    assert sum(found.values()) == pytest.approx(1, abs=1e-5)


def test_equal_weights_tie_the_published_run_in_the_same_way() -> None:
    by = Weighted(PUBLISHED, EQUAL)
    selection = rank(PUBLISHED, PUBLISHED[0], by)
    assert (selection.pick, selection.tie_set) == (21, [13, 21])
    assert by.score(PUBLISHED[2]) == pytest.approx((16 / 18 + 5 / 8 + 4 / 13) / 3)


def test_one_type_alone_is_that_type() -> None:
    by = Weighted(PUBLISHED, {"update": 2.5})
    for first in PUBLISHED:
        assert by.interval(first) == pytest.approx(beta_interval(*first.types["update"]), abs=1e-4)
        for second in PUBLISHED:
            expected = probability_better(*first.types["update"], *second.types["update"])
            assert by.better(first, second) == pytest.approx(expected, abs=1e-6)


def test_it_agrees_with_sampling() -> None:
    rng = np.random.default_rng(0)
    candidates = [one(0, a=(3, 7), b=(0, 2), c=(400, 500)), one(1, a=(5, 7), b=(1, 2), c=(350, 500))]
    by = Weighted(candidates, {"a": 1, "b": 2, "c": 5})
    drawn = [
        sum(w * rng.beta(1 + k, 1 + n - k, 400_000) for w, (k, n) in zip((1, 2, 5), c.types.values(), strict=True)) / 8
        for c in candidates
    ]
    assert by.better(*candidates) == pytest.approx(np.mean(drawn[0] > drawn[1]), abs=0.004)
    assert by.interval(candidates[0]) == pytest.approx(tuple(np.quantile(drawn[0], [0.1, 0.9])), abs=0.001)
    assert by.score(candidates[0]) == pytest.approx(np.mean(drawn[0]), abs=0.001)


def test_many_verdicts_are_normal() -> None:
    first, second = one(0, a=(500_300, 10**6), b=(5, 10**6)), one(1, a=(500_000, 10**6), b=(5, 10**6))
    by = Weighted([first, second], {"a": 1, "b": 1})
    assert by.better(first, second) == pytest.approx(ndtr(300e-6 / (0.5e-6) ** 0.5), abs=1e-4)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 5)), min_size=2, max_size=4), st.floats(0.01, 9))
@settings(deadline=None, max_examples=40)
def test_one_of_two_is_better(counts: list[tuple[int, int]], weight: float) -> None:
    candidates = [one(step, a=(a, 12), b=(b, 5)) for step, (a, b) in enumerate(counts)]
    by = Weighted(candidates, {"a": 1.0, "b": weight})
    assert by.better(*candidates[:2]) + by.better(*candidates[1::-1]) == pytest.approx(1, abs=1e-9)
    assert by.better(candidates[0], candidates[0]) == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize(
    "weights", [{}, {"a": 0.0}, {"a": -1.0, "b": 2.0}, {"c": 1.0}, {"a": float("nan")}, {"a": float("inf")}]
)
def test_weights_that_weigh_nothing_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match=r"weights = .*: give some of a, b weights of 0 or more, not all 0"):
        Weighted([one(0, a=(1, 2), b=(1, 2))], weights)
