import numpy as np
import pytest

from rl.advantages import group_normalised
from rl.errors import InvalidInput
from rl.objective_parts import SoftOverlong, StopProperly
from rl.overlong import shaped, soft_penalty, stopped_properly


def test_the_soft_penalty_is_linear_in_the_buffer() -> None:
    got = soft_penalty([10, 924, 960, 1024, 5000], max_tokens=1024, buffer=100, factor=1.0)
    np.testing.assert_allclose(got, [0, 0, -0.36, -1, -1])
    np.testing.assert_allclose(soft_penalty([960], 1024, 100, 0.5), [-0.18])


def test_a_buffer_must_fit() -> None:
    for buffer in (0, 1025):
        with pytest.raises(InvalidInput, match=f"overlong.buffer = {buffer}"):
            soft_penalty([10], 1024, buffer, 1.0)


def test_truncated_rewards_are_scaled_or_replaced() -> None:
    rewards, truncated = [2.0, 3.0, -4.0], [True, False, True]
    assert stopped_properly(rewards, truncated, 0.5).tolist() == [1.0, 3.0, -2.0]
    assert stopped_properly(rewards, truncated, 0.0).tolist() == [0.0, 3.0, 0.0]
    assert stopped_properly(rewards, truncated, -0.5).tolist() == [-0.5, 3.0, -0.5]
    with pytest.raises(InvalidInput, match=r"overlong.coefficient = 1.5: set at most 1"):
        stopped_properly(rewards, truncated, 1.5)


def test_a_config_chooses_the_rule() -> None:
    rewards, lengths, truncated = [1.0, 1.0], [960, 100], [True, False]
    soft = shaped(rewards, lengths, truncated, SoftOverlong(max_tokens=1024, buffer=100))
    np.testing.assert_allclose(soft, [0.64, 1.0])
    assert shaped(rewards, lengths, truncated, StopProperly(coefficient=-1)).tolist() == [-1.0, 1.0]
    assert shaped(rewards, lengths, truncated, None).tolist() == rewards


def test_the_rule_comes_before_the_groups_statistics() -> None:
    rewards = shaped([1.0, 1.0], [960, 100], [False, False], SoftOverlong(max_tokens=1024, buffer=100))
    np.testing.assert_allclose(group_normalised(rewards, ["a", "a"]), [-0.70710678, 0.70710678], atol=1e-7)
