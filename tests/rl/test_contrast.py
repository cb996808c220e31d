from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.anytime import boundary
from rl.contrast import Arm, Reward, Rewards, contrast, interval
from rl.errors import InvalidInput

FOUR = [
    Reward(0, 0, "a", True, 1.0),
    Reward(0, 0, "b", True, 0.0),
    Reward(0, 0, "c", False, 1.0),
    Reward(0, 0, "d", False, 1.0),
]


def _drawn(rng: np.random.Generator, units: int, hours: int, canary: float, stable: float, share: float) -> Rewards:
    rows = []
    for unit in range(units):
        is_canary = unit < share * units
        rate = canary if is_canary else stable
        rows += [Reward(0, hour, str(unit), is_canary, float(rng.random() < rate)) for hour in range(hours)]
    return Rewards.of(rows)


def test_four_rewards_by_hand() -> None:
    """m = 3/4, q = 1/2, scale^2 = 4/3. Parts of the gain: 1/8, -3/8, -1/8, -1/8; of the information 1/4 each."""
    found = contrast(Rewards.of(FOUR))
    assert (found.gain, found.information, found.difference) == pytest.approx((-0.5, 1.0, -0.5))
    assert found.observed == pytest.approx((12 / 64 * 4 / 3, -1 / 8 * 4 / 3, 1 / 4 * 4 / 3))
    assert found.assigned == pytest.approx((1 / 4 * 3 / 4 * 4 / 3, -1 / 8 * 4 / 3, 1 / 4 * 4 / 3))
    assert (found.canary, found.stable) == (Arm(2, 2, 0.5), Arm(2, 2, 1.0))


def test_nothing_is_known_of_nothing() -> None:
    assert interval(contrast(Rewards.of([])), 0.05) == (-math.inf, math.inf)
    alone = contrast(Rewards.of(FOUR[:2]))
    assert (alone.information, alone.difference, alone.canary) == (0.0, 0.0, Arm(0, 0, 0.0))


def test_hours_that_differ_are_no_difference_of_versions() -> None:
    """All earn 0 in the hour when one of ten is the canary's, and 1 in the hour when five are."""
    early = [Reward(0, 0, str(i), i < 1, 0.0) for i in range(10)]
    late = [Reward(1, 1, str(i), i < 5, 1.0) for i in range(10)]
    found = contrast(Rewards.of(early + late))
    assert found.canary.mean - found.stable.mean == pytest.approx(5 / 6 - 5 / 14)
    assert found.gain == pytest.approx(0.0, abs=1e-12)


def test_one_version_alone_in_an_hour_adds_nothing() -> None:
    found = contrast(Rewards.of([*FOUR, Reward(1, 7, "a", True, 99.0), Reward(1, 7, "c", True, 99.0)]))
    assert found == contrast(Rewards.of(FOUR))


@given(st.permutations(range(12)), st.integers(0, 11))
def test_neither_order_nor_batches_matter(order: list[int], cut: int) -> None:
    rows = [Reward(i // 6, i // 3, "abcd"[i % 4], (i % 4) < 2, i * 0.37 % 1) for i in range(12)]
    mixed = [rows[i] for i in order]
    found = contrast(Rewards.of(mixed[:cut]) + Rewards.of(mixed[cut:]))
    expected = contrast(Rewards.of(rows))
    for one, other in zip(found[:4], expected[:4], strict=True):
        assert one == pytest.approx(other)


def test_rows_may_be_summed_by_unit() -> None:
    rows = [Reward(0, 0, unit, unit < "c", value) for unit in "abcdef" for value in (0.1, 0.9, ord(unit) / 99)]
    summed = [Reward(0, 0, unit, unit < "c", 1.0 + ord(unit) / 99, 3) for unit in "abcdef"]
    for one, other in zip(contrast(Rewards.of(rows))[:4], contrast(Rewards.of(summed))[:4], strict=True):
        assert one == pytest.approx(other)


@pytest.mark.parametrize(("total", "n"), [(math.nan, 1), (math.inf, 1), (1.0, 0)])
def test_a_reward_that_is_no_number_is_refused(total: float, n: int) -> None:
    with pytest.raises(InvalidInput, match="give a finite total of one reward or more"):
        Rewards.of([Reward(0, 0, "a", True, total, n)])


def test_bounds_are_where_the_noise_times_the_boundary_is_reached() -> None:
    found = contrast(_drawn(np.random.default_rng(3), 200, 5, 0.4, 0.6, 0.2))
    low, high = interval(found, 0.05)
    z = float(boundary(found.information, 0.05))
    assert low < found.difference < high < 0
    for theta in (low, high):
        noises = [gg - 2 * theta * gw + theta**2 * ww for gg, gw, ww in (found.observed, found.assigned)]
        assert abs(found.gain - theta * found.information) == pytest.approx(z * math.sqrt(max(noises)), rel=1e-6)


def test_an_interval_moves_and_stretches_with_the_rewards() -> None:
    rewards = _drawn(np.random.default_rng(4), 100, 5, 0.5, 0.5, 0.3)
    low, high = interval(contrast(rewards), 0.05)
    scaled = Rewards(
        rewards.stage, rewards.cohort, rewards.unit, rewards.is_canary, 1000 * rewards.total + 7, rewards.n
    )
    assert interval(contrast(scaled), 0.05) == pytest.approx((1000 * low, 1000 * high))


def test_many_rewards_of_few_agents_tell_nothing() -> None:
    """Six agents, however often they are looked at, are six assignments."""
    found = contrast(_drawn(np.random.default_rng(5), 6, 500, 0.9, 0.1, 0.5))
    assert interval(found, 0.05) == (-math.inf, math.inf)


@pytest.mark.parametrize(("rate", "share"), [(0.5, 0.1), (0.05, 0.1), (0.95, 0.1), (0.9, 0.5)])
def test_equal_versions_seldom_differ_at_any_look(rate: float, share: float) -> None:
    """A look after every 100 rewards, each of an agent of its own; skewed ones, and few of the canary, are hard."""
    rng = np.random.default_rng(int(rate * 100))
    better = worse = 0
    for _ in range(100):
        is_canary, total = rng.random(1000) < share, (rng.random(1000) < rate).astype(np.float64)
        order = np.arange(1000)
        rewards = Rewards(order * 0, order // 25, order.astype(np.str_), is_canary, total, order * 0 + 1)
        bounds = [interval(contrast(rewards.rows(order < seen)), 0.05) for seen in range(100, 1001, 100)]
        better += any(low > 0 for low, _ in bounds)
        worse += any(high < 0 for _, high in bounds)
    assert max(better, worse) <= 8
