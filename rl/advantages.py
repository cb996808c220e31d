"""Advantages: how much better a trajectory did than the others of its group, one number a trajectory.

A group whose rewards are all equal teaches nothing and gets exact zeros, whatever the baseline: the mean of equal
floats may round, and a division would blow that up to about 0.9. So does a group with one member.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rl.errors import InvalidInput
from rl.objective_parts import Baseline

Floats = NDArray[np.float64]

EPSILON = 1e-9
MIN_VARIANCE = 1e-8


def group_normalised(rewards: ArrayLike, groups: Sequence[Hashable]) -> Floats:
    """``(r - mean_g) / (std_g + 1e-9)`` with the unbiased standard deviation.

    ``rewards`` [N] and ``groups`` [N] go together. GRPO's advantage, section 4.1 of DeepSeekMath (arXiv 2402.03300).

    Raises:
        InvalidInput: the lengths differ, or a reward is not finite.
    """
    reward, member = _checked(rewards, groups)
    if not len(reward):
        return reward
    centre = _centred(reward, member)
    std = np.sqrt(np.bincount(member, centre**2) / np.maximum(np.bincount(member) - 1, 1))
    return centre / (std + EPSILON)[member]


def centred(rewards: ArrayLike, groups: Sequence[Hashable]) -> Floats:
    """``r - mean_g``: Dr. GRPO's advantage (arXiv 2503.20783, section 3.2).

    Raises:
        InvalidInput: the lengths differ, or a reward is not finite.
    """
    return _centred(*_checked(rewards, groups))


def leave_one_out(rewards: ArrayLike, groups: Sequence[Hashable]) -> Floats:
    """``r_i`` minus the mean of the others in its group (RLOO, arXiv 2402.14740, equation 8).

    Raises:
        InvalidInput: the lengths differ, or a reward is not finite.
    """
    reward, member = _checked(rewards, groups)
    if not len(reward):
        return reward
    count = np.bincount(member)[member]
    return _centred(reward, member) * count / np.maximum(count - 1, 1)


def batch_normalised(rewards: ArrayLike, groups: Sequence[Hashable], tokens: ArrayLike, std: bool = True) -> Floats:
    """``r - mean_g``, whitened over all tokens of the batch: REINFORCE++-baseline (arXiv 2501.03262).

    ``tokens`` [N] counts each trajectory's; mean and biased variance weigh by them, the variance is at least 1e-8,
    and ``std=False`` takes off the mean alone. Constant groups stay 0 and are left out of mean and variance.

    Raises:
        InvalidInput: the lengths differ, or a reward is not finite.
    """
    reward, member = _checked(rewards, groups)
    weight = np.asarray(tokens, dtype=np.float64).reshape(-1)
    if len(weight) != len(reward):
        raise InvalidInput("tokens", f"{len(weight)} for {len(reward)} rewards", "count the tokens of each trajectory")
    if not len(reward):
        return reward
    centre, differs = _centred(reward, member), ~_constant(reward, member)[member]
    advantage = np.zeros_like(centre)
    advantage[differs] = whitened(centre[differs], weight[differs], std)
    return advantage


def whitened(values: ArrayLike, weights: ArrayLike | None = None, std: bool = True) -> Floats:
    """``(x - mu) / sqrt(max(var, 1e-8))`` with the biased variance, weighted where ``weights`` are given.

    Token advantages of PPO are whitened over the batch as they are; ``std=False`` takes off the mean alone.
    """
    value = np.asarray(values, dtype=np.float64)
    weight = np.ones_like(value) if weights is None else np.asarray(weights, dtype=np.float64)
    total = weight.sum()
    if not total:
        return np.zeros_like(value)
    centre: Floats = value - (value * weight).sum() / total
    return centre / np.sqrt(max((centre**2 * weight).sum() / total, MIN_VARIANCE)) if std else centre


def advantages(
    baseline: Baseline, rewards: ArrayLike, groups: Sequence[Hashable], tokens: ArrayLike, std: bool = True
) -> Floats:
    """The advantages [N] of an objective's ``baseline``; ``tokens`` and ``std`` matter to ``batch_normalised`` alone.

    Raises:
        InvalidInput: the lengths differ, or a reward is not finite.
    """
    match baseline:
        case "group_normalised":
            return group_normalised(rewards, groups)
        case "centred":
            return centred(rewards, groups)
        case "leave_one_out":
            return leave_one_out(rewards, groups)
        case "batch_normalised":
            return batch_normalised(rewards, groups, tokens, std)


def group_variance(rewards: ArrayLike, groups: Sequence[Hashable]) -> float | None:
    """The mean over groups of at least two of their unbiased variances: 0 teaches nothing. None without such a group.

    Raises:
        InvalidInput: the lengths differ, or a reward is not finite.
    """
    reward, member = _checked(rewards, groups)
    count = np.bincount(member)
    if not (count > 1).any():
        return None
    squares = np.bincount(member, _centred(reward, member) ** 2)[count > 1]
    return float((squares / (count[count > 1] - 1)).mean())


def pooled(groups: Sequence[Hashable]) -> list[Hashable]:
    """``groups`` with all lone members in one group, so that they have the batch's other lone ones as a baseline."""
    member = numbered(groups)
    count = np.bincount(member)
    lone = object()
    return [group if count[number] > 1 else lone for group, number in zip(groups, member, strict=True)]


def numbered(groups: Sequence[Hashable]) -> NDArray[np.int64]:
    """Groups as 0, 1, 2... in order of appearance, [N]."""
    numbers: dict[Hashable, int] = {}
    return np.fromiter((numbers.setdefault(group, len(numbers)) for group in groups), np.int64, len(groups))


def bounds(values: Floats, member: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """The least and the greatest value of each group, [groups] each."""
    n = int(member.max(initial=-1)) + 1
    low, high = np.full(n, np.inf), np.full(n, -np.inf)
    np.minimum.at(low, member, values)
    np.maximum.at(high, member, values)
    return low, high


def _checked(rewards: ArrayLike, groups: Sequence[Hashable]) -> tuple[Floats, NDArray[np.int64]]:
    reward = np.asarray(rewards, dtype=np.float64).reshape(-1)
    if len(reward) != len(groups):
        raise InvalidInput("groups", f"{len(groups)} for {len(reward)} rewards", "name one group for each reward")
    if not np.isfinite(reward).all():
        raise InvalidInput("rewards", float(reward[~np.isfinite(reward)][0]), "rewards must be finite numbers")
    return reward, numbered(groups)


def _centred(reward: Floats, member: NDArray[np.int64]) -> Floats:
    """``r - mean_g``, exactly 0 in a constant group."""
    if not len(reward):
        return reward
    centre = reward - (np.bincount(member, reward) / np.bincount(member))[member]
    centre[_constant(reward, member)[member]] = 0.0
    return centre


def _constant(reward: Floats, member: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[groups]: whether all rewards of a group are equal; true for a single member."""
    low, high = bounds(reward, member)
    constant: NDArray[np.bool_] = low == high
    return constant
