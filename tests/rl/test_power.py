from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.errors import InvalidInput
from rl.paired import exact_p
from rl.power import decidable, flattery, paired_scenarios, power_table


@pytest.mark.parametrize(
    ("difference", "discordance", "published"), [(0.10, 0.3, 233), (0.10, 0.2, 155), (0.15, 0.3, 102), (0.05, 0.2, 626)]
)
def test_published_sizes(difference: float, discordance: float, published: int) -> None:
    assert round(paired_scenarios(difference, discordance)) == published
    assert paired_scenarios(-difference, discordance) == paired_scenarios(difference, discordance)
    row = {"difference": difference, "discordance": discordance, "scenarios": published}
    assert row in power_table()


def test_the_formula_by_hand() -> None:
    """(1.959964 sqrt(.3) + .841621 sqrt(.3 - .01))^2 / .01."""
    assert paired_scenarios(0.1, 0.3) == pytest.approx(
        (1.959964 * 0.3**0.5 + 0.841621 * 0.29**0.5) ** 2 / 0.01, rel=1e-6
    )


def test_so_many_scenarios_have_the_power() -> None:
    """The exact test of McNemar is a little more cautious than the formula; without its ties (mid-p) it is not."""
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(233, [0.2, 0.1, 0.7], size=4000)
    seen = [exact_p(first, second) <= 0.05 for first, second, _ in drawn.tolist()]
    assert np.mean(seen) == pytest.approx(0.8, abs=0.05)


def test_33_scenarios_decide_differences_near_a_quarter() -> None:
    found = decidable(33)
    assert found == pytest.approx(0.25, abs=0.01)
    assert found is not None
    assert paired_scenarios(found) == pytest.approx(33, abs=1e-4)
    assert decidable(5) is None
    assert decidable(10**6) == pytest.approx((1.959964 + 0.841621) * (0.3 / 10**6) ** 0.5, rel=1e-3)


@given(st.floats(0.01, 0.29), st.floats(0.3, 1))
def test_a_smaller_difference_needs_more(difference: float, discordance: float) -> None:
    assert paired_scenarios(difference, discordance) > paired_scenarios(difference + 0.01, discordance)


@pytest.mark.parametrize(("several", "published"), [(5, 0.098), (20, 0.155), (40, 0.178)])
def test_published_flattery(several: int, published: float) -> None:
    assert flattery(33, 0.6, several) == pytest.approx(published, abs=5e-4)


def test_flattery_agrees_with_sampling_and_vanishes() -> None:
    drawn = np.random.default_rng(0).binomial(50, 0.3, size=(100_000, 7)).max(axis=1) / 50 - 0.3
    assert flattery(50, 0.3, 7) == pytest.approx(drawn.mean(), abs=1e-3)
    assert flattery(33, 0.5, 1) == pytest.approx(0, abs=1e-12)
    assert flattery(33, 0.0, 9) == flattery(33, 1.0, 9) == 0
    assert flattery(10**6, 0.5, 20) == pytest.approx(1.8675 * 0.0005, rel=1e-3)  # E[max of 20 normals]


@pytest.mark.parametrize(
    ("difference", "discordance", "power", "level", "field"),
    [
        (0.0, 0.3, 0.8, 0.05, "difference"),
        (1.1, 0.3, 0.8, 0.05, "difference"),
        (float("nan"), 0.3, 0.8, 0.05, "difference"),
        (0.4, 0.3, 0.8, 0.05, "discordance"),
        (0.1, 1.2, 0.8, 0.05, "discordance"),
        (0.1, 0.3, 1.0, 0.05, "power"),
        (0.1, 0.3, 0.8, 0.0, "level"),
    ],
)
def test_what_has_no_size_is_refused(
    difference: float, discordance: float, power: float, level: float, field: str
) -> None:
    with pytest.raises(InvalidInput, match=field):
        paired_scenarios(difference, discordance, power, level)


@pytest.mark.parametrize(("n", "rate", "several"), [(0, 0.5, 2), (10, 1.5, 2), (10, 0.5, 0), (-1, 0.5, 2)])
def test_what_cannot_be_flattered_is_refused(n: int, rate: float, several: int) -> None:
    with pytest.raises(InvalidInput):
        flattery(n, rate, several)
