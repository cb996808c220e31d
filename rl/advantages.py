"""Advantages: how much better a trajectory did than the others of its group."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rl.errors import InvalidInput

EPSILON = 1e-9


def group_normalised(rewards: ArrayLike, groups: Sequence[Hashable]) -> NDArray[np.float64]:
    """``(r - mean_g) / (std_g + 1e-9)`` with the unbiased standard deviation, one number a trajectory.

    ``rewards`` [N] and ``groups`` [N] go together. A group with one member, or whose rewards are all equal,
    gets exact zeros: the mean of equal floats may round, and the division would blow that up to about 0.9.
    GRPO's advantage, section 4.1 of DeepSeekMath (arXiv 2402.03300).

    Raises:
        InvalidInput: the lengths differ, or a reward is not finite.
    """
    reward = np.asarray(rewards, dtype=np.float64).reshape(-1)
    if len(reward) != len(groups):
        raise InvalidInput("groups", f"{len(groups)} for {len(reward)} rewards", "name one group for each reward")
    if not np.isfinite(reward).all():
        raise InvalidInput("rewards", float(reward[~np.isfinite(reward)][0]), "rewards must be finite numbers")
    if not len(reward):
        return reward
    member = _numbered(groups)
    count = np.bincount(member)
    mean = np.bincount(member, reward) / count
    centred = reward - mean[member]
    std = np.sqrt(np.bincount(member, centred**2) / np.maximum(count - 1, 1))
    advantage = centred / (std + EPSILON)[member]
    advantage[_constant(reward, member, len(count))[member]] = 0.0
    return advantage


def _numbered(groups: Sequence[Hashable]) -> NDArray[np.int64]:
    """Groups as 0, 1, 2... in order of appearance."""
    numbers: dict[Hashable, int] = {}
    return np.fromiter((numbers.setdefault(group, len(numbers)) for group in groups), np.int64, len(groups))


def _constant(reward: NDArray[np.float64], member: NDArray[np.int64], n_groups: int) -> NDArray[np.bool_]:
    """[n_groups]: whether all rewards of a group are equal; true for a single member."""
    low, high = np.full(n_groups, np.inf), np.full(n_groups, -np.inf)
    np.minimum.at(low, member, reward)
    np.maximum.at(high, member, reward)
    constant: NDArray[np.bool_] = low == high
    return constant
