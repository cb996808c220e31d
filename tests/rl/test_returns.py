import numpy as np
import pytest

from rl.errors import InvalidInput
from rl.returns import discounted, gae, placed

TWO = [0, 1, 0, 1, 0]


def test_gae_fixture() -> None:
    advantage, returns = gae([0, 0, 1], [0.5, 0.4, 0.3], [0, 0, 0], 0.9, 0.8)
    np.testing.assert_allclose(advantage, [0.12928, 0.374, 0.7])
    np.testing.assert_allclose(returns, [0.62928, 0.774, 1.0])


def test_samples_do_not_leak_into_each_other() -> None:
    values = [0.5, 0.1, 0.4, 0.2, 0.3]
    advantage, returns = gae([0, 0, 0, 2, 1], values, TWO, 0.9, 0.8)
    alone, _ = gae([0, 2], [0.1, 0.2], [0, 0], 0.9, 0.8)
    np.testing.assert_allclose(advantage, [0.12928, alone[0], 0.374, alone[1], 0.7])
    np.testing.assert_allclose(returns, advantage + values)


def test_gae_with_lambda_1_is_the_return_minus_the_value() -> None:
    rewards, values = np.array([0.5, -1.0, 2.0]), np.array([0.3, 0.1, -0.7])
    advantage, returns = gae(rewards, values, [0, 0, 0], 0.95, 1.0)
    np.testing.assert_allclose(returns, discounted(rewards, [0, 0, 0], 0.95))
    np.testing.assert_allclose(advantage, returns - values)


def test_the_reward_stands_at_the_last_token() -> None:
    assert placed([3.0, -1.0], TWO).tolist() == [0.0, 0.0, 0.0, -1.0, 3.0]


def test_kl_is_taken_off_every_token_and_summed_back() -> None:
    rewards = placed([3.0, -1.0], TWO, kl=[0.1, 0.2, 0.3, 0.4, 0.5], coefficient=0.5)
    np.testing.assert_allclose(rewards, [-0.05, -0.1, -0.15, -1.2, 2.75])
    np.testing.assert_allclose(discounted(rewards, TWO), [2.55, -1.3, 2.6, -1.2, 2.75])
    np.testing.assert_allclose(discounted(rewards, TWO, 0.5), [-0.05 - 0.075 + 0.6875, -0.7, 1.225, -1.2, 2.75])


def test_rewards_are_clamped_and_kl_is_not() -> None:
    assert placed([40.0, -40.0], [0, 1]).tolist() == [10.0, -10.0]
    assert placed([40.0], [0], kl=[100.0], coefficient=0.5).tolist() == [-40.0]


def test_a_sample_without_tokens_places_nothing() -> None:
    assert placed([5.0, 7.0], [1]).tolist() == [7.0]
    assert placed([5.0], []).shape == discounted([], []).shape == gae([], [], [], 1.0, 1.0)[0].shape == (0,)


def test_a_token_of_nobody_is_refused() -> None:
    with pytest.raises(InvalidInput, match="sample = 1: there are 1 rewards"):
        placed([5.0], [0, 1])
