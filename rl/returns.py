"""Rewards placed on tokens, and returns and advantages summed back from the end.

Arrays are flat, one entry a token [T]; ``sample`` [T] says whose token it is, and a sample's tokens stand in the
order they were spoken, with other samples' between them or not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rl.errors import InvalidInput

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

REWARD_LIMIT = 10.0


def placed(reward: ArrayLike, sample: ArrayLike, kl: ArrayLike | None = None, coefficient: float = 0.0) -> Floats:
    """Each sample's reward at its last token, clamped to +-10, minus ``coefficient * kl`` at every token, [T].

    ``reward`` [S] is a score or, for objectives with groups, the normalised advantage; ``kl`` [T] is only given
    when it is taken off the reward, never when it is a term of the loss.

    Raises:
        InvalidInput: a token belongs to a sample without a reward.
    """
    rewards, owner = np.clip(np.asarray(reward, dtype=np.float64), -REWARD_LIMIT, REWARD_LIMIT), _owner(sample)
    if len(owner) and owner.max() >= len(rewards):
        raise InvalidInput("sample", int(owner.max()), f"there are {len(rewards)} rewards; give one for each sample")
    values = np.zeros(len(owner)) if kl is None else -coefficient * np.asarray(kl, dtype=np.float64)
    last = np.full(len(rewards), -1)
    last[owner] = np.arange(len(owner))
    spoke = last >= 0
    values[last[spoke]] += rewards[spoke]
    return values


def discounted(rewards: ArrayLike, sample: ArrayLike, gamma: float = 1.0) -> Floats:
    """``G_t = r_t + gamma G_{t+1}`` within each sample, [T]."""
    reward, owner = np.asarray(rewards, dtype=np.float64), _owner(sample)
    returns, after = np.zeros_like(reward), np.zeros(_count(owner))
    for t in range(len(reward) - 1, -1, -1):
        returns[t] = after[owner[t]] = reward[t] + gamma * after[owner[t]]
    return returns


def gae(
    rewards: ArrayLike, values: ArrayLike, sample: ArrayLike, gamma: float, gae_lambda: float
) -> tuple[Floats, Floats]:
    """Generalised advantages and returns, [T] each (Schulman et al., arXiv 1506.02438, equation 16).

    ``delta_t = r_t + gamma V_{t+1} - V_t``, ``A_t = delta_t + gamma lambda A_{t+1}`` and ``R = A + V``; what comes
    after a sample's last token is worth 0.
    """
    reward, value, owner = np.asarray(rewards, dtype=np.float64), np.asarray(values, dtype=np.float64), _owner(sample)
    advantage = np.zeros_like(reward)
    next_value, next_advantage = np.zeros(_count(owner)), np.zeros(_count(owner))
    for t in range(len(reward) - 1, -1, -1):
        one = owner[t]
        delta = reward[t] + gamma * next_value[one] - value[t]
        advantage[t] = next_advantage[one] = delta + gamma * gae_lambda * next_advantage[one]
        next_value[one] = value[t]
    return advantage, advantage + value


def _owner(sample: ArrayLike) -> Ints:
    return np.asarray(sample, dtype=np.int64).reshape(-1)


def _count(owner: Ints) -> int:
    return int(owner.max(initial=-1)) + 1
