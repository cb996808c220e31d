"""Group-normalised advantages, against values computed by hand."""

import numpy as np
import pytest

from rl.advantages import group_normalised
from rl.errors import InvalidInput


def test_values_use_the_unbiased_standard_deviation() -> None:
    got = group_normalised([1, 0, 0, 1, 1, 0, 0, 0], ["a"] * 4 + ["b"] * 4)
    half = 0.8660254037844386
    np.testing.assert_allclose(got, [half, -half, -half, half, 1.5, -0.5, -0.5, -0.5], atol=1e-8)


def test_groups_need_not_be_contiguous() -> None:
    got = group_normalised([1, 5, 0, 7], ["a", "b", "a", "b"])
    np.testing.assert_allclose(got, [0.70710678, -0.70710678, -0.70710678, 0.70710678], atol=1e-7)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6, 7, 9, 33])
@pytest.mark.parametrize("reward", [0.0, 0.1, 0.45, 1 / 3, -7.7])
def test_a_constant_group_gets_exact_zeros(n: int, reward: float) -> None:
    assert (group_normalised([reward] * n + [1.0, 0.0], ["same"] * n + ["mixed"] * 2)[:n] == 0.0).all()


def test_no_rewards_no_advantages() -> None:
    assert group_normalised([], []).shape == (0,)


def test_unequal_lengths_and_nan_are_refused() -> None:
    with pytest.raises(InvalidInput, match="1 for 2 rewards"):
        group_normalised([1, 2], ["a"])
    with pytest.raises(InvalidInput, match="finite"):
        group_normalised([1, float("nan")], ["a", "a"])
