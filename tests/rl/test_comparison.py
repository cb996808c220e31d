from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta

from rl.comparison import IN_INTEGERS, probability_best, probability_better
from rl.errors import InvalidInput

PUBLISHED = [(13, 33), (22, 33), (22, 33), (18, 33), (16, 33)]

small = st.integers(0, 40).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
large = st.integers(IN_INTEGERS, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def exact(k1: int, n1: int, k2: int, n2: int) -> Fraction:
    """The integral of p^k1 (1 - p)^(n1 - k1) times P(p2 < p), a sum of binomials, term by term as fractions."""

    def area(k: int, n: int) -> Fraction:
        return Fraction(1, (n + 1) * comb(n, k))

    below = sum(comb(n2 + 1, j) * area(k1 + j, n1 + n2 + 1) for j in range(k2 + 1, n2 + 2))
    return Fraction(below) / area(k1, n1)


def by_quadrature(k1: int, n1: int, k2: int, n2: int) -> float:
    places = beta.ppf([1e-12, 1e-4, 0.1, 0.5, 0.9, 1 - 1e-4, 1 - 1e-12], 1 + k1, 1 + n1 - k1)
    value, _ = quad(
        lambda p: beta.pdf(p, 1 + k1, 1 + n1 - k1) * beta.cdf(p, 1 + k2, 1 + n2 - k2),
        places[0],
        places[-1],
        points=places[1:-1],
        limit=400,
        epsabs=1e-11,
    )
    return float(value)


@given(small, small)
def test_it_is_the_fraction_rounded_once(one: tuple[int, int], other: tuple[int, int]) -> None:
    assert probability_better(*one, *other) == float(exact(*one, *other))


def test_four_fifths_is_not_below_four_fifths() -> None:
    """All of three against nothing known: the mean of Beta(4, 1)."""
    assert probability_better(3, 3, 0, 0) == 0.8
    assert probability_better(0, 0, 3, 3) == 0.2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((160, 200), (150, 200)),
        ((3, 11), (4, 11)),
        ((1300, 2000), (1280, 2000)),
        ((500_300, 10**6), (500_000, 10**6)),
        ((60, 70), (900_000, 10**6)),
        ((1, 10**6), (0, 10**6)),
        ((10**6, 10**6), (999_999, 10**6)),
    ],
)
def test_it_is_the_integral(one: tuple[int, int], other: tuple[int, int]) -> None:
    assert probability_better(*one, *other) == pytest.approx(by_quadrature(*one, *other), abs=2e-9)


def test_large_counts_agree_with_integers() -> None:
    """The tail in floats against the same sum of binomials in integers."""
    for k1, k2 in ((1400, 1380), (3, 0), (2000, 1990), (600, 700)):
        expected = sum(comb(2001, h) * comb(2001, k1 + k2 + 1 - h) for h in range(max(0, k1 + k2 - 2000), k1 + 1))
        fraction = Fraction(expected, comb(4002, k1 + k2 + 1))
        assert probability_better(k1, 2000, k2, 2000) == pytest.approx(float(fraction), abs=1e-13)


@given(st.one_of(small, large), st.one_of(small, large))
@settings(deadline=None)
def test_one_of_two_is_better(one: tuple[int, int], other: tuple[int, int]) -> None:
    p = probability_better(*one, *other)
    assert 0 <= p <= 1
    assert p + probability_better(*other, *one) == pytest.approx(1, abs=1e-12)


def test_what_is_certain_is_zero_or_one() -> None:
    assert probability_better(10**9, 10**9, 0, 10**9) == 1
    assert probability_better(0, 10**9, 10**9, 10**9) == 0
    assert probability_better(5 * 10**8, 10**9, 5 * 10**8, 10**9) == pytest.approx(0.5, abs=1e-12)


def test_it_agrees_with_sampling() -> None:
    rng = np.random.default_rng(0)
    for (k1, n1), (k2, n2) in [((15, 16), (13, 16)), ((2, 6), (4, 6)), ((0, 5), (0, 50))]:
        drawn = rng.beta(1 + k1, 1 + n1 - k1, 200_000) > rng.beta(1 + k2, 1 + n2 - k2, 200_000)
        assert probability_better(k1, n1, k2, n2) == pytest.approx(drawn.mean(), abs=4 * (0.25 / 200_000) ** 0.5)


def test_published_probabilities_of_being_the_best() -> None:
    assert probability_best(PUBLISHED) == pytest.approx([0.001, 0.461, 0.461, 0.060, 0.016], abs=1e-3)


@given(st.lists(st.one_of(small, large), min_size=1, max_size=8))
@settings(deadline=None)
def test_one_of_them_is_the_best(counts: list[tuple[int, int]]) -> None:
    found = probability_best(counts)
    assert sum(found) == pytest.approx(1, abs=1e-9)
    assert probability_best(counts[::-1]) == pytest.approx(found[::-1], abs=1e-12)


@given(st.one_of(small, large), st.one_of(small, large))
@settings(deadline=None)
def test_the_best_of_two_is_the_better(one: tuple[int, int], other: tuple[int, int]) -> None:
    assert probability_best([one, other])[0] == pytest.approx(probability_better(*one, *other), abs=1e-9)


def test_the_best_agrees_with_sampling() -> None:
    counts = [(3, 11), (5, 11), (30, 100), (0, 2), (430, 1000)]
    rng = np.random.default_rng(0)
    drawn = np.stack([rng.beta(1 + k, 1 + n - k, 200_000) for k, n in counts]).argmax(axis=0)
    expected = np.bincount(drawn, minlength=5) / 200_000
    assert probability_best(counts) == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize(("k", "n"), [(-1, 3), (4, 3)])
def test_counts_that_cannot_be_are_refused(k: int, n: int) -> None:
    for counts in ((k, n, 1, 2), (1, 2, k, n)):
        with pytest.raises(InvalidInput, match="0 <= k <= n"):
            probability_better(*counts)
    with pytest.raises(InvalidInput, match="0 <= k <= n"):
        probability_best([(1, 2), (k, n)])
