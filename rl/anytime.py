"""Evidence that may be looked at as often as one likes.

An e-process is at most 1 on average under its null hypothesis, whenever one stops. So it reaches 1 / alpha at any of
all looks with a probability of at most alpha (Ville 1939), and the null may be given up then. Two are here: a mean of
any scale, and failures of requests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rl.errors import InvalidInput

Floats = NDArray[np.float64]

TUNED = 50.0
"""The information at which the mixture is as wide as the noise: tightest from about 4 to 20 times that."""
ODDS = (1.5, 2.0, 4.0, 8.0, 16.0)
"""Alternatives for failures: so many times the odds that are allowed, each with the same weight."""
HALVINGS = 60


def log_evidence(z: ArrayLike, information: ArrayLike) -> Floats:
    """Log of the e-value against "the effect is not positive".

    ``z`` is the effect in standard errors, ``information`` the pairs that it rests on: n1 n2 / (n1 + n2) where n1 and
    n2 observations are compared. exp(lambda S - lambda^2 V / 2), mixed over a half-normal lambda whose variance is
    1 / (TUNED variances): with r = information / (information + TUNED) it is
    2 sqrt(1 - r) exp(r z^2 / 2) Phi(z sqrt(r)). (Robbins 1970; Howard et al. 2021, proposition 6; with the variance
    estimated it holds asymptotically: Waudby-Smith et al. 2024, "Time-uniform central limit theory".)
    """
    from scipy.special import log_ndtr  # whoever reads rules alone, as the gateway does, starts without scipy

    z, information = np.asarray(z, np.float64), np.asarray(information, np.float64)
    r = information / (information + TUNED)
    evidence: Floats = math.log(2) + 0.5 * np.log1p(-r) + 0.5 * r * z**2 + log_ndtr(z * np.sqrt(r))
    return evidence


def boundary(information: ArrayLike, alpha: float) -> Floats:
    """The ``z`` at which the evidence is 1 / alpha; infinite without information.

    Raises:
        InvalidInput: alpha is not within (0, 0.5].
    """
    if not 0 < alpha <= 0.5:
        raise InvalidInput("alpha", alpha, "give the chance of a false alarm, such as 0.05")
    information = np.asarray(information, np.float64)
    r = information / (information + TUNED)
    with np.errstate(divide="ignore"):
        # Phi is at least 1/2 above 0, so this z has at least the evidence that is wanted.
        high = np.sqrt(2 * (-math.log(alpha) - 0.5 * np.log1p(-r)) / r)
    bounded = np.isfinite(high)
    low, high = np.zeros_like(high), np.where(bounded, high, 1.0)
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        enough = log_evidence(middle, information) >= -math.log(alpha)
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.where(bounded, high, np.inf)


def log_failure_factors(canary: tuple[int, int], stable: tuple[int, int], ratio: float = 1.0) -> Floats:
    """Logs of the e-values that one batch adds against "the canary's odds of failing are at most ``ratio`` times".

    [len(ODDS)], one for each alternative. ``canary`` and ``stable`` are (failed, all) of requests that ran side by
    side. Given the k failures of both, the canary's x of them follow Fisher's noncentral hypergeometric distribution.
    That is a sum of k independent coins (Harkness 1965) with a mean of at most k q, q = ratio n1 / (ratio n1 + n2), so
    omega^x / (1 + q (omega - 1))^k is at most 1 on average: for any numbers, whatever the failure rate of the hour.

    Raises:
        InvalidInput: not 0 <= failed <= all, or a ratio below 1.
    """
    for name, (failed, n) in (("canary", canary), ("stable", stable)):
        if not 0 <= failed <= n:
            raise InvalidInput(f"attempts.{name}", (failed, n), "give failed and all requests, 0 <= failed <= all")
    if not ratio >= 1:
        raise InvalidInput("failure_ratio", ratio, "give 1 or more")
    (failed, n), (others_failed, others) = canary, stable
    omega = np.asarray(ODDS)
    if n == 0 or others == 0:
        return np.zeros_like(omega)
    q = ratio * n / (ratio * n + others)
    factors: Floats = failed * np.log(omega) - (failed + others_failed) * np.log1p(q * (omega - 1))
    return factors


def log_mixed(logs: Sequence[float]) -> float:
    """Log of the mean of the e-values of the alternatives."""
    most = max(logs)
    return most + math.log(sum(math.exp(log - most) for log in logs) / len(logs))
