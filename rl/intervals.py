"""Credible intervals of a success rate, from counts."""

from __future__ import annotations

from scipy.special import betaincinv

from rl.errors import InvalidInput

UNIFORM = (1.0, 1.0)
JEFFREYS = (0.5, 0.5)


def check_count(k: float, n: int) -> None:
    """Refuse counts that cannot be.

    Raises:
        InvalidInput: not 0 <= k <= n.
    """
    if not 0 <= k <= n:
        raise InvalidInput("count", (k, n), "give successes and trials with 0 <= k <= n")


def beta_interval(k: float, n: int, mass: float = 0.8, prior: tuple[float, float] = UNIFORM) -> tuple[float, float]:
    """Equal-tailed interval that holds ``mass`` of the posterior Beta(a + k, b + n - k) of ``k`` of ``n``.

    ``k`` need not be whole: a tie adds half a success and half a failure.
    With no trials it is the prior's interval.

    Raises:
        InvalidInput: not 0 <= k <= n, or a mass outside (0, 1).
    """
    check_count(k, n)
    if not 0 < mass < 1:
        raise InvalidInput("mass", mass, "give a probability between 0 and 1, such as 0.8")
    a, b = prior[0] + k, prior[1] + n - k
    tail = (1 - mass) / 2
    return float(betaincinv(a, b, tail)), float(betaincinv(a, b, 1 - tail))
