"""The default policy: who was right where the other was wrong, on the same scenarios.

Each scenario that both versions were judged on falls into one of four cells: both right, only the candidate, only the
stable version, neither. With a uniform prior the cells' shares are Dirichlet(1 + counts), and the difference of the
success rates is theta = p(only the candidate) - p(only the stable version). Released when

    P(theta > margin) >= min_probability

with at least ``min_scenarios`` such scenarios that are at least 90 % of all that either version was judged on. Each
version may lack verdicts on 5 % of the scenarios, and where these are others for each, 90 % are left: so two versions
that were each judged as they have to be are always compared. The cells where both agree say nothing about the sign,
which is what makes pairs worth more than two independent rates.

The probability is exact. The share D of scenarios where they differ is Beta(2 + wins + losses, 2 + agreements) and,
independently, the candidate's part X of those is Beta(1 + wins, 1 + losses); theta = D (2 X - 1). So P(theta > m) is
one integral, over the quantiles of D, of P(X > (1 + m / D) / 2).

A scenario with several samples counts once, in parts: a candidate that is right in a of its samples where the stable
version is right in b adds a (1 - b) to the first difference and b (1 - a) to the second. That is as wide as one sample
each, and so cautious.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import betainc, betaincc, betaincinv

from rl.alike import MIN_COVERAGE
from rl.errors import InvalidInput
from rl.verdicts import Cells, EnvironmentVerdict, PolicyDecision, Verdicts

NAME = "paired-margin"
LEAST_PAIRED = 2 * MIN_COVERAGE - 1
"""The least share of pairs. Of N scenarios a are judged for one, b for the other, u for either, so a + b - u for both;
with a, b >= c N and u <= N that is at least (2 c - 1) u."""
NODES, WEIGHTS = np.polynomial.legendre.leggauss(96)


def decide(verdicts: Verdicts, min_probability: float, margin: float, min_scenarios: int) -> PolicyDecision:
    """The rule at the top of this file, over the scenarios of all environments.

    Raises:
        InvalidInput: a score outside 0..1.
    """
    cells, judged = pair(verdicts)
    if cells.n < min_scenarios:
        reason = f"both versions were judged on {cells.n:g} scenarios, fewer than {min_scenarios}"
        return _decision(verdicts, cells, None, False, reason, f"{min_scenarios - cells.n:g} more of them")
    if cells.n < LEAST_PAIRED * judged:
        reason = f"both versions were judged on {cells.n:g} of {judged} scenarios, less than {LEAST_PAIRED:.0%}"
        return _decision(verdicts, cells, None, False, reason, "verdicts on the scenarios that one of them lacks")
    probability = probability_above(cells, margin)
    released = probability >= min_probability
    than = f"better by more than {margin:g}" if margin >= 0 else f"not worse by {-margin:g}"
    reason = (
        f"of {cells.n:g} scenarios only the candidate was right on {cells.only_candidate:g}, only the stable version "
        f"on {cells.only_stable:g}: P({than}) = {probability:.4f}, {_against(released)} {min_probability:g}"
    )
    change = _would_change(cells, margin, min_probability, released)
    return _decision(verdicts, cells, probability, released, reason, change)


def pair(verdicts: Verdicts) -> tuple[Cells, int]:
    """The cells of the scenarios that both were judged on, and how many either was judged on.

    Raises:
        InvalidInput: a score outside 0..1.
    """
    found, judged = np.zeros(4), 0
    for name in verdicts.environments:
        candidate, stable = verdicts.candidate.get(name, {}), verdicts.stable.get(name, {})
        judged += len(candidate.keys() | stable.keys())
        for scenario in candidate.keys() & stable.keys():
            a, b = candidate[scenario], stable[scenario]
            if not (0 <= a <= 1 and 0 <= b <= 1):
                raise InvalidInput(f"{name}.{scenario}", (a, b), "paired-margin compares scores from 0 to 1")
            found += (a * b, a * (1 - b), b * (1 - a), (1 - a) * (1 - b))
    both, only_candidate, only_stable, neither = (float(x) for x in found)
    return Cells(both=both, only_candidate=only_candidate, only_stable=only_stable, neither=neither), judged


def probability_above(cells: Cells, margin: float) -> float:
    """P(theta > margin), for a margin within (-1, 1); to about 1e-7.

    Gauss and Legendre's nodes, after a substitution by t^3 (10 - 15 t + 6 t^2), which takes the quantiles' ends away.
    """
    a, b, c = 1 + cells.only_candidate, 1 + cells.only_stable, 2 + cells.both + cells.neither
    kink = float(betainc(a + b, c, abs(margin)))
    t = (NODES + 1) / 2
    share = betaincinv(a + b, c, kink + (1 - kink) * t**3 * (10 - 15 * t + 6 * t**2))
    above: NDArray[np.float64] = betaincc(a, b, np.clip((1 + margin / share) / 2, 0.0, 1.0))
    found = (1 - kink) * float((WEIGHTS * 15 * t**2 * (1 - t) ** 2) @ above)
    return min(found + (kink if margin < 0 else 0.0), 1.0)


def interval(cells: Cells, mass: float = 0.8) -> tuple[float, float, float]:
    """Equal-tailed interval of theta around its posterior mean: (low, mean, high)."""
    mean = (cells.only_candidate - cells.only_stable) / (cells.n + 4)
    tails = ((1 + mass) / 2, (1 - mass) / 2)
    low, high = (float(brentq(lambda m, p=p: probability_above(cells, m) - p, -1, 1, xtol=1e-9)) for p in tails)
    return low, mean, high


def wins_needed(cells: Cells, margin: float, min_probability: float) -> float | None:
    """The fewest scenarios that only the candidate got right, the losses as they are, the rest agreeing; None: none.

    Whole steps away from the count there is, so parts of scenarios stay.
    """
    part = cells.only_candidate % 1
    most = math.floor(cells.n - cells.only_stable - part + 1e-9)
    low, high = 0, most + 1
    while low < high:
        middle = (low + high) // 2
        if middle > most or probability_above(_with_wins(cells, part + middle), margin) >= min_probability:
            high = middle
        else:
            low = middle + 1
    return part + low if low <= most else None


def _with_wins(cells: Cells, wins: float) -> Cells:
    agreed = max(cells.n - cells.only_stable - wins, 0.0)
    return Cells(both=agreed, only_candidate=wins, only_stable=cells.only_stable, neither=0.0)


def _would_change(cells: Cells, margin: float, min_probability: float, released: bool) -> str:
    needed = wins_needed(cells, margin, min_probability)
    if needed is None:
        return f"more scenarios, or fewer than {cells.only_stable:g} that only the stable version got right"
    if released:
        return f"{needed - 1:g} or fewer scenarios that only the candidate got right" if needed >= 1 else "more losses"
    return f"{needed:g} or more scenarios that only the candidate got right"


def _against(released: bool) -> str:
    return "at least" if released else "below"


def _decision(
    verdicts: Verdicts, cells: Cells, probability: float | None, released: bool, reason: str, would_change: str
) -> PolicyDecision:
    found = []
    for name in verdicts.environments:
        candidate, stable = verdicts.tallies(name)
        word = f"{candidate.mean - stable.mean:+.4f}"
        found.append(EnvironmentVerdict(environment=name, candidate=candidate, stable=stable, verdict=word))
    return PolicyDecision(
        released=released,
        probability=probability,
        policy=NAME,
        reason=reason,
        would_change=would_change,
        environments=found,
        cells=cells,
        difference=interval(cells),
    )
