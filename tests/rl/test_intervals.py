from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.errors import InvalidInput
from rl.intervals import JEFFREYS, beta_interval

PUBLISHED = [
    # k, n, Beta(1,1), Jeffreys: 80 % intervals
    (9, 16, (0.4055, 0.7027), (0.4045, 0.7099)),
    (10, 16, (0.4626, 0.7539), (0.4652, 0.7636)),
    (13, 16, (0.6481, 0.8932), (0.6640, 0.9082)),
    (15, 16, (0.7898, 0.9683), (0.8199, 0.9816)),
    (3, 11, (0.1542, 0.4753), (0.1361, 0.4639)),
    (4, 11, (0.2187, 0.5590), (0.2041, 0.5559)),
    (5, 11, (0.2882, 0.6377), (0.2784, 0.6416)),
    (0, 6, (0.0149, 0.2803), (0.0013, 0.1944)),
    (2, 6, (0.1696, 0.5962), (0.1435, 0.5919)),
    (3, 6, (0.2786, 0.7214), (0.2642, 0.7358)),
    (4, 6, (0.4038, 0.8304), (0.4081, 0.8565)),
    (13, 33, (0.2957, 0.5068), (0.2915, 0.5053)),
    (22, 33, (0.5530, 0.7573), (0.5564, 0.7629)),
    (18, 33, (0.4349, 0.6497), (0.4346, 0.6525)),
    (16, 33, (0.3781, 0.5936), (0.3762, 0.5948)),
]

counts = st.integers(0, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@pytest.mark.parametrize(("k", "n", "uniform", "jeffreys"), PUBLISHED)
def test_published_intervals(k: int, n: int, uniform: tuple[float, float], jeffreys: tuple[float, float]) -> None:
    assert beta_interval(k, n) == pytest.approx(uniform, abs=5.1e-5)
    assert beta_interval(k, n, prior=JEFFREYS) == pytest.approx(jeffreys, abs=5.1e-5)


def test_cases_with_a_closed_form() -> None:
    """All of n: the quantile q of Beta(n + 1, 1) is q^(1/(n+1)). No trials: the uniform prior itself."""
    assert beta_interval(3, 3) == pytest.approx((0.1**0.25, 0.9**0.25))
    assert beta_interval(0, 3) == pytest.approx((1 - 0.9**0.25, 1 - 0.1**0.25))
    assert beta_interval(0, 0, mass=0.5) == pytest.approx((0.25, 0.75))


@given(counts)
def test_failures_mirror_successes(count: tuple[int, int]) -> None:
    k, n = count
    low, high = beta_interval(k, n)
    assert beta_interval(n - k, n) == pytest.approx((1 - high, 1 - low), abs=1e-9)


@given(counts, st.floats(0.05, 0.95))
def test_more_mass_is_wider(count: tuple[int, int], mass: float) -> None:
    low, high = beta_interval(*count, mass=mass)
    wider_low, wider_high = beta_interval(*count, mass=mass + 0.04)
    assert 0 <= wider_low < low < high < wider_high <= 1


@pytest.mark.parametrize(("k", "n"), [(-1, 3), (4, 3), (0, -1)])
def test_counts_that_cannot_be_are_refused(k: int, n: int) -> None:
    with pytest.raises(InvalidInput, match="0 <= k <= n"):
        beta_interval(k, n)


@pytest.mark.parametrize("mass", [0.0, 1.0, 80.0])
def test_a_mass_is_a_probability(mass: float) -> None:
    with pytest.raises(InvalidInput, match="mass"):
        beta_interval(1, 3, mass=mass)
