"""KL divergence from the reference, estimated token by token, and a coefficient that adapts to it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rl.errors import InvalidInput
from rl.objective_parts import Estimator

LIMIT = 10.0
"""Each token's estimate is clamped to plus or minus this: one token the reference finds absurd must not rule."""

STEP = 0.2
"""The adaptive coefficient moves by at most this share of ``episodes / horizon``."""


def estimated(logp: ArrayLike, ref_logp: ArrayLike, estimator: Estimator) -> NDArray[np.float64]:
    """KL(policy, reference) per token [T], in nats, from log-probabilities [T] of tokens the policy sampled.

    With d = logp - ref_logp: k1 = d, k2 = d^2 / 2, k3 = e^-d - 1 + d (Schulman, "Approximating KL divergence",
    2020); each then clamped to +-10.
    """
    d = np.asarray(logp, dtype=np.float64) - np.asarray(ref_logp, dtype=np.float64)
    match estimator:
        case "k1":
            value = d
        case "k2":
            value = d**2 / 2
        case "k3":
            value = np.expm1(np.minimum(-d, 2 * LIMIT)) + d
    clamped: NDArray[np.float64] = np.clip(value, -LIMIT, LIMIT)
    return clamped


def adapted(coefficient: float, kl: float, episodes: int, target: float, horizon: float) -> float:
    """The next coefficient, once ``episodes`` were trained on at a mean KL of ``kl`` nats a token.

    ``coefficient * (1 + clip(kl / target - 1, -0.2, 0.2) * episodes / horizon)`` (Ziegler et al.,
    arXiv 1909.08593, section 2.2).

    Raises:
        InvalidInput: the target or the horizon is not above 0, or one step could turn the coefficient negative.
    """
    if not target > 0:
        raise InvalidInput("kl.target", target, "set more than 0")
    if not horizon > 0:
        raise InvalidInput("kl.horizon", horizon, "set more than 0")
    if not STEP * episodes / horizon < 1:
        remedy = f"{episodes} episodes a batch could turn the coefficient negative; set more than {STEP * episodes:g}"
        raise InvalidInput("kl.horizon", horizon, remedy)
    error = min(max(kl / target - 1, -STEP), STEP)
    return coefficient * (1 + error * episodes / horizon)
