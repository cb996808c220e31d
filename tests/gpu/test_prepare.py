"""Advantages, returns and weights token by token, of episodes whose spoken tokens stand in two sequences.

Log-probabilities and values are a table's instead of a model's, so that every number can be worked out by hand.
"""

import math
from collections.abc import Mapping, Sequence

import pytest
import torch

from gpu.bins import Layout
from gpu.episodes import Bin, Column, Episode, bins_of
from gpu.prepare import Preparation
from gpu.terms import Scored
from rl.config import OnPolicyTrain
from rl.objective_parts import Kl, Mismatch
from rl.objectives import DrGrpo, Ppo, ReinforceBaseline
from rl.records import Call
from rl.sequences import merge
from rl.training import Optimizer
from tests.gpu.trainings import INTERLEAVED

Table = Mapping[int, float]

VALUES: Table = {2: 0.6, 3: 0.5, 9: 0.4, 5: 0.3}
REFERENCE: Table = {2: -1.1, 3: -1.2, 9: -1.3, 5: -1.4}
"""With the engine's -1 everywhere, a k1 of 0.1, 0.2, 0.3 and 0.4 in the order they were spoken."""
TRAINER: Table = {2: -1.5, 3: -1.2, 9: -1.0, 5: -0.5}
NO_VALUES: Table = dict.fromkeys(VALUES, 0.0)
PLAIN = Optimizer(learning_rate=1e-3)
IN_REWARD = Kl(place="reward", estimator="k1", coefficient=0.5)

ADVANTAGES = [-0.0569184, 0.12928, 0.7, 0.374]
"""Of a reward of 1 under gamma 0.9 and lambda 0.8; in the order they were spoken -0.0569184, 0.12928, 0.374, 0.7."""


def episode(
    reward: float = 0.0, advantage: float = 0.0, staleness: int = 0, calls: Sequence[Call] = INTERLEAVED
) -> Episode:
    return Episode(merge(calls, 0), advantage=advantage, reward=reward, staleness=staleness)


def prepared(
    config: OnPolicyTrain,
    episodes: Sequence[Episode],
    values: Table = VALUES,
    coefficient: float = 0.0,
    layout: Layout = "tree",
) -> list[Episode]:
    def score(one: Bin, reference: bool) -> Scored:
        terms = one.trie.terms
        ids = one.trie.ids[terms.token].tolist()
        logp = torch.tensor([(REFERENCE if reference else TRAINER)[each] for each in ids])
        old_logp, sample, position, spoken = (
            torch.from_numpy(each) for each in (terms.old_logp, terms.sample, terms.position, terms.spoken)
        )
        value = None if reference else torch.tensor([values[each] for each in ids])
        return Scored(logp, torch.zeros_like(logp), old_logp, sample, position, spoken, value)

    preparation = Preparation(config, episodes, coefficient)
    assert list(preparation.run(score, bins_of(episodes, 8, layout)))[-1] == 1
    return preparation.known()


def column(one: Episode, name: Column) -> list[float]:
    values = getattr(one.known, name)
    assert values is not None
    assert values.shape == (one.spoken,)
    return [float(each) for each in values]


def whitened(values: Sequence[float], std: bool = True) -> list[float]:
    mean = sum(values) / len(values)
    variance = sum((each - mean) ** 2 for each in values) / len(values)
    return [(each - mean) / (variance**0.5 if std else 1) for each in values]


@pytest.mark.parametrize("layout", ["tree", "packed", "padded"])
def test_values_are_credited_in_the_order_of_turns(layout: Layout) -> None:
    config = Ppo(optimizer=PLAIN, gamma=0.9, gae_lambda=0.8)
    (found,) = prepared(config, [episode(reward=1)], layout=layout)
    assert column(found, "value") == pytest.approx([0.6, 0.5, 0.3, 0.4], rel=1e-6)
    assert column(found, "returns") == pytest.approx([0.5430816, 0.62928, 1.0, 0.774], rel=1e-6)
    assert column(found, "advantage") == pytest.approx(whitened(ADVANTAGES), rel=1e-5)


def test_advantages_are_whitened_over_the_tokens_of_all_episodes() -> None:
    config = Ppo(optimizer=PLAIN, gamma=0.9, gae_lambda=0.8)
    # The second speaks one token, whose value is 0.4 and whose advantage is therefore -0.4.
    found = prepared(config, [episode(reward=1), episode(calls=INTERLEAVED[1:2])])
    expected = whitened([*ADVANTAGES, -0.4])
    assert column(found[0], "advantage") == pytest.approx(expected[:4], rel=1e-5)
    assert column(found[1], "advantage") == pytest.approx(expected[4:], rel=1e-5)
    assert column(found[1], "returns") == pytest.approx([0], abs=1e-7)


def test_a_kl_is_taken_off_the_reward_in_the_order_of_turns() -> None:
    config = DrGrpo(optimizer=PLAIN, max_tokens=20, kl=IN_REWARD)
    (found,) = prepared(config, [episode(advantage=0.7)], coefficient=0.5)
    # -0.05, -0.1, -0.15 and 0.7 - 0.2, summed from the end: 0.2, 0.25, 0.35, 0.5 as they were spoken.
    assert column(found, "advantage") == pytest.approx([0.2, 0.25, 0.5, 0.35], rel=1e-5)


def test_a_kl_in_the_reward_is_discounted_from_the_end() -> None:
    config = Ppo(optimizer=PLAIN, gamma=0.9, gae_lambda=1.0, kl=IN_REWARD)
    (found,) = prepared(config, [episode(reward=1)], values=NO_VALUES, coefficient=0.5)
    # From 1 - 0.2 on: -0.15 + 0.9 * 0.8 = 0.57, -0.1 + 0.9 * 0.57 = 0.413, -0.05 + 0.9 * 0.413 = 0.3217.
    assert column(found, "returns") == pytest.approx([0.3217, 0.413, 0.8, 0.57], rel=1e-5)


@pytest.mark.parametrize("std", [True, False])
def test_a_kl_in_the_reward_is_whitened_with_the_advantages(std: bool) -> None:
    config = ReinforceBaseline(optimizer=PLAIN, kl=IN_REWARD, normalise_std=std)
    found = prepared(config, [episode(advantage=0.7), episode(advantage=-0.7, calls=INTERLEAVED[1:2])], coefficient=0.5)
    expected = whitened([0.2, 0.25, 0.5, 0.35, -0.85], std)
    assert column(found[0], "advantage") == pytest.approx(expected[:4], rel=1e-5)
    assert column(found[1], "advantage") == pytest.approx(expected[4:], rel=1e-5)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Mismatch(mode="tis", high=1.5), [math.exp(-0.5), math.exp(-0.2), 1.5, 1]),
        (Mismatch(mode="icepop", high=1.5), [math.exp(-0.5), math.exp(-0.2), 0, 1]),
        (Mismatch(mode="sequence_mask", low=0.96, high=1.5), [0, 0, 0, 0]),
    ],
)
def test_only_what_this_very_policy_spoke_is_held_against_the_engine(rule: Mismatch, expected: list[float]) -> None:
    """Between an older version and this one lies learning, which the ratio of the loss has to see."""
    episodes = [episode(), episode(staleness=1), episode(staleness=3, calls=INTERLEAVED[1:2])]
    found = prepared(DrGrpo(optimizer=PLAIN, max_tokens=20, mismatch=rule), episodes)
    assert column(found[0], "weight") == pytest.approx(expected, rel=1e-5)
    assert column(found[0], "old_logp") == pytest.approx([-1.5, -1.2, -0.5, -1.0], rel=1e-6)
    for one in found[1:]:
        assert column(one, "weight") == [1.0] * one.spoken
        assert column(one, "old_logp") == [-1.0] * one.spoken


def test_the_engine_is_trusted_where_no_rule_is_set() -> None:
    (found,) = prepared(Ppo(optimizer=PLAIN), [episode(reward=1)])
    assert found.known.old_logp is None
    assert found.known.weight is None
