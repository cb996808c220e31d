"""How many held-out scenarios a difference needs, and how much the best of several flatters itself."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import bdtr, ndtri

from rl.errors import InvalidInput
from rl.intervals import check_count

DISCORDANCE = 0.3
DIFFERENCES = (0.05, 0.10, 0.15, 0.20, 0.25)
DISCORDANCES = (0.2, 0.3)
REACH = 12
"""Standard deviations from the mean beyond which a count does not happen."""


def paired_scenarios(
    difference: float, discordance: float = DISCORDANCE, power: float = 0.8, level: float = 0.05
) -> float:
    """Scenarios for a two-sided McNemar test of that level to see a difference of two success rates.

    Both versions are judged on the same scenarios; ``discordance`` is the share of them on which they differ:
    (z(1 - level / 2) sqrt(c) + z(power) sqrt(c - d^2))^2 / d^2 (Connor, "Sample size for testing differences in
    proportions for the paired-sample design", 1987). Not rounded.

    Raises:
        InvalidInput: the difference is 0 or not a share, the discordance is below it or above 1, or a probability is
            not between 0 and 1.
    """
    d = abs(difference)
    if not 0 < d <= 1:
        raise InvalidInput("difference", difference, "give a difference of two rates, such as 0.1")
    if not d <= discordance <= 1:
        raise InvalidInput("discordance", discordance, f"give a share from the difference {d:g} to 1")
    for name, value in (("power", power), ("level", level)):
        if not 0 < value < 1:
            raise InvalidInput(name, value, "give a probability between 0 and 1")
    reach = ndtri(1 - level / 2) * math.sqrt(discordance) + ndtri(power) * math.sqrt(discordance - d * d)
    return float(reach**2) / d**2


def decidable(n: int, discordance: float = DISCORDANCE) -> float | None:
    """The smallest difference that ``n`` paired scenarios show with 80 % power; None: not even the whole discordance.

    Raises:
        InvalidInput: the discordance is not a share above 0.
    """
    if paired_scenarios(discordance, discordance) > n:
        return None
    low, high = 0.0, discordance
    while high - low > 1e-9:
        middle = (low + high) / 2
        if paired_scenarios(middle, discordance) > n:
            low = middle
        else:
            high = middle
    return high


def power_table() -> list[dict[str, float]]:
    """Scenarios, rounded, for the usual differences and discordances."""
    return [
        {"difference": d, "discordance": c, "scenarios": round(paired_scenarios(d, c))}
        for d in DIFFERENCES
        for c in DISCORDANCES
        if d <= c
    ]


def flattery(n: int, rate: float, several: int) -> float:
    """How much the best of ``several`` versions that all have that rate exceeds it on ``n`` scenarios, on average.

    E[max of K binomials] / n - p, with E[max] = sum over j of 1 - P(X <= j)^K. It falls as ``n`` grows.

    Raises:
        InvalidInput: no scenarios, a rate outside 0 to 1, or fewer than one version.
    """
    check_count(0, n)
    if n == 0 or not 0 <= rate <= 1 or several < 1:
        raise InvalidInput(
            "flattery", (n, rate, several), "give scenarios and versions, 1 or more, and a rate from 0 to 1"
        )
    reach = REACH * math.sqrt(n * rate * (1 - rate)) + REACH
    low, high = max(0, int(n * rate - reach)), min(n, int(n * rate + reach))
    counts = np.arange(low, high, dtype=np.float64)
    return max(0.0, float(low + (1 - bdtr(counts, n, rate) ** several).sum()) / n - rate)
