"""Advantages, against values computed by hand."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from rl.advantages import advantages, batch_normalised, centred, group_normalised, leave_one_out, pooled, whitened
from rl.errors import InvalidInput
from rl.objective_parts import Baseline

BASELINES: list[Baseline] = ["group_normalised", "centred", "leave_one_out", "batch_normalised"]
Method = Callable[[ArrayLike, Sequence[str]], NDArray[np.float64]]


def test_values_use_the_unbiased_standard_deviation() -> None:
    got = group_normalised([1, 0, 0, 1, 1, 0, 0, 0], ["a"] * 4 + ["b"] * 4)
    half = 0.8660254037844386
    np.testing.assert_allclose(got, [half, -half, -half, half, 1.5, -0.5, -0.5, -0.5], atol=1e-8)


def test_groups_need_not_be_contiguous() -> None:
    got = group_normalised([1, 5, 0, 7], ["a", "b", "a", "b"])
    np.testing.assert_allclose(got, [0.70710678, -0.70710678, -0.70710678, 0.70710678], atol=1e-7)


def test_leave_one_out_compares_with_the_others() -> None:
    np.testing.assert_allclose(leave_one_out([1, 0, 0, 0], ["a"] * 4), [1, -1 / 3, -1 / 3, -1 / 3])
    np.testing.assert_allclose(leave_one_out([3, 1, 0, 8], ["a", "a", "a", "b"]), [2.5, -0.5, -2.0, 0.0])


def test_centred_keeps_the_scale() -> None:
    np.testing.assert_allclose(centred([4, 0, 0, 0, 9], ["a"] * 4 + ["b"]), [3, -1, -1, -1, 0])


def test_batch_normalised_weighs_by_tokens() -> None:
    # Centred: 1, -1, 2, -2 with 1, 3, 2, 2 tokens: mean -2/8, mean of squares (1 + 3 + 8 + 8) / 8 = 2.5.
    got = batch_normalised([2, 0, 5, 1], ["a", "a", "b", "b"], [1, 3, 2, 2])
    np.testing.assert_allclose(got, np.array([1.25, -0.75, 2.25, -1.75]) / np.sqrt(2.5 - 0.0625))
    got = batch_normalised([2, 0, 5, 1], ["a", "a", "b", "b"], [1, 3, 2, 2], std=False)
    np.testing.assert_allclose(got, [1.25, -0.75, 2.25, -1.75])


def test_a_constant_group_moves_nobody_elses_batch_normalisation() -> None:
    alone = batch_normalised([2, 0], ["a", "a"], [1, 3])
    together = batch_normalised([2, 0, 7, 7], ["a", "a", "c", "c"], [1, 3, 100, 5])
    assert together.tolist() == [*alone.tolist(), 0.0, 0.0]


def test_whitening_has_a_least_variance() -> None:
    np.testing.assert_allclose(whitened([1.0, 3.0]), [-1.0, 1.0])
    np.testing.assert_allclose(whitened([1.0, 1.0 + 2e-6]), [-1e-2, 1e-2], rtol=1e-6)
    assert whitened([]).shape == (0,)
    assert whitened([1.0, 2.0], [0.0, 0.0]).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("n", [1, 2, 3, 5, 6, 7, 9, 33])
@pytest.mark.parametrize("reward", [0.0, 0.1, 0.45, 1 / 3, -7.7])
def test_a_constant_group_gets_exact_zeros(baseline: Baseline, n: int, reward: float) -> None:
    got = advantages(baseline, [reward] * n + [1.0, 0.0], ["same"] * n + ["mixed"] * 2, [5] * (n + 2))
    assert (got[:n] == 0.0).all()
    assert (got[n:] != 0.0).all()


@pytest.mark.parametrize("baseline", BASELINES)
def test_no_rewards_no_advantages(baseline: Baseline) -> None:
    assert advantages(baseline, [], [], []).shape == (0,)


@pytest.mark.parametrize("baseline", BASELINES)
def test_unequal_lengths_and_nan_are_refused(baseline: Baseline) -> None:
    with pytest.raises(InvalidInput, match="1 for 2 rewards"):
        advantages(baseline, [1, 2], ["a"], [1, 1])
    with pytest.raises(InvalidInput, match="finite"):
        advantages(baseline, [1, float("nan")], ["a", "a"], [1, 1])


def test_tokens_are_counted_for_each_trajectory() -> None:
    with pytest.raises(InvalidInput, match="tokens = '1 for 2 rewards': count the tokens of each trajectory"):
        batch_normalised([1, 2], ["a", "a"], [1])


@pytest.mark.parametrize(
    ("baseline", "method"),
    [("group_normalised", group_normalised), ("centred", centred), ("leave_one_out", leave_one_out)],
)
def test_a_baseline_is_chosen_by_name(baseline: Baseline, method: Method) -> None:
    rewards, groups = [3.0, 1.0, 0.0], ["a", "a", "a"]
    assert advantages(baseline, rewards, groups, [1, 1, 1]).tolist() == method(rewards, groups).tolist()


def test_lone_trajectories_pool() -> None:
    groups = pooled(["a", "b", "c", "a", "d"])
    assert groups[0] == groups[3] == "a"
    assert groups[1] == groups[2] == groups[4] != "a"
    np.testing.assert_allclose(centred([9, 1, 2, 7, 3], groups), [1, -1, 0, -1, 1])
