import math

import numpy as np
import pytest

from rl.errors import InvalidInput
from rl.offline import exponential_weights, preferences


def test_weights_grow_with_the_advantage_up_to_a_cap() -> None:
    got = exponential_weights([2, 0, 40, 0], ["a", "a", "b", "b"], temperature=2.0, cap=20.0)
    np.testing.assert_allclose(got, [math.exp(0.5), math.exp(-0.5), 20.0, math.exp(-10)])


@pytest.mark.parametrize("n", [1, 3, 7])
def test_a_constant_group_is_plain_cloning(n: int) -> None:
    assert exponential_weights([0.45] * n, ["a"] * n, 0.1, 20.0).tolist() == [1.0] * n


def test_a_temperature_or_cap_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"weight_temperature = 0\.0"):
        exponential_weights([1], ["a"], 0.0, 20.0)
    with pytest.raises(InvalidInput, match=r"weight_cap = 0\.0"):
        exponential_weights([1], ["a"], 1.0, 0.0)


def test_the_best_is_preferred_to_the_worst() -> None:
    scores = [0.2, 5.0, 0.9, 0.9, 0.1, 3.0]
    groups = ["a", "b", "a", "a", "a", "c"]
    assert preferences(scores, groups) == [(2, 4)]
    assert preferences([0, 1, 2, 0], ["x", "y", "x", "y"]) == [(2, 0), (1, 3)]


def test_small_margins_and_constant_groups_prefer_nothing() -> None:
    assert preferences([0.5, 0.6, 1, 1], ["a", "a", "b", "b"], min_margin=0.2) == []
    assert preferences([0.5, 0.75], ["a", "a"], min_margin=0.25) == [(1, 0)]
    assert preferences([], []) == []


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InvalidInput, match="min_margin = 0"):
        preferences([1, 1], ["a", "a"], 0.0)
    with pytest.raises(InvalidInput, match="finite"):
        preferences([1, float("inf")], ["a", "a"])
    with pytest.raises(InvalidInput, match="1 for 2 scores"):
        preferences([1, 2], ["a"])
