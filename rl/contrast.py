"""Rewards of a canary against those of the stable version, compared among requests that ran side by side.

Three things would make a plain comparison of two means wrong, and each has its place here:

* **Shares and hours change.** A canary with 10 % today and 50 % tomorrow has its mean from other hours than the stable
  version. So rewards are compared within a **cohort**: requests that were served in the same hour at the same shares.
* **Rewards come late**, bad ones often sooner than good ones. A cohort is when a request was served, never when its
  reward came: of one cohort both versions have waited equally long.
* **An agent stays with its version**, and agents differ. A hundred rewards of one agent are not a hundred pieces of
  evidence about versions. So noise is measured between **units**, which are agents.

The difference theta is that of a regression with an effect for each cohort: a reward r counts (A - q)(r - m - theta
(A - q)), with A = 1 for the canary, q the canary's share of the cohort's rewards and m the cohort's mean. The noise of
the sum is measured twice, with the theta that is tested put in, and the greater one counts:

* **observed**: each unit's part, squared (Liang and Zeger 1986). Right when the versions' rewards spread differently.
* **assigned**: what the sum could have been, had the units' fixed places drawn other units into the canary's share.
  Right when the canary has few rewards and they are skewed, such as failures that are rare.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rl.anytime import Floats, boundary
from rl.errors import InvalidInput


class Reward(NamedTuple):
    """``n`` rewards of one unit that sum to ``total``, of requests that one version served in one cohort.

    ``stage`` numbers the shares that the canary has had: the cohorts of a stage have one share.
    """

    stage: int
    cohort: int
    unit: str
    is_canary: bool
    total: float
    n: int = 1


@dataclass(frozen=True, eq=False)
class Rewards:
    """All rewards that have come, a row each or summed; [R] every column."""

    stage: NDArray[np.int64]
    cohort: NDArray[np.int64]
    unit: NDArray[np.str_]
    is_canary: NDArray[np.bool_]
    total: Floats
    n: NDArray[np.int64]

    @classmethod
    def of(cls, rewards: Iterable[Reward]) -> Rewards:
        """Columns of rows.

        Raises:
            InvalidInput: a total that is not a finite number, or n below 1.
        """
        rows = list(rewards)
        for row in rows:
            if not np.isfinite(row.total) or row.n < 1:
                raise InvalidInput("reward", tuple(row), "give a finite total of one reward or more")
        return cls(
            stage=np.array([row.stage for row in rows], np.int64),
            cohort=np.array([row.cohort for row in rows], np.int64),
            unit=np.array([row.unit for row in rows], np.str_),
            is_canary=np.array([row.is_canary for row in rows], np.bool_),
            total=np.array([row.total for row in rows], np.float64),
            n=np.array([row.n for row in rows], np.int64),
        )

    def __add__(self, other: Rewards) -> Rewards:
        return Rewards(*(np.concatenate((getattr(self, f.name), getattr(other, f.name))) for f in fields(self)))

    def rows(self, which: NDArray[np.bool_]) -> Rewards:
        """Some of the rows."""
        return Rewards(*(getattr(self, f.name)[which] for f in fields(self)))


class Arm(NamedTuple):
    """Rewards of one version that can be compared: those of cohorts in which the other has some too."""

    n: int
    units: int
    mean: float


class Contrast(NamedTuple):
    """What the test needs. ``information`` is the sum over cohorts of n1 n2 / (n1 + n2).

    ``gain`` over ``information`` is the difference of the means. ``observed`` and ``assigned`` are the two noises as
    sums of (gain gain, gain weight, weight weight): at theta the square of the noise is gg - 2 theta gw + theta^2 ww.
    """

    gain: float
    information: float
    observed: tuple[float, float, float]
    assigned: tuple[float, float, float]
    canary: Arm
    stable: Arm

    @property
    def difference(self) -> float:
        """The canary's mean reward minus the stable version's, in units of the reward; 0 with nothing to compare."""
        return self.gain / self.information if self.information else 0.0


def contrast(rewards: Rewards) -> Contrast:
    """The sums of all rewards that have come."""
    every = _columns(rewards)
    compared = (every.q > 0) & (every.q < 1)
    known, columns = rewards.rows(compared), every.rows(compared)
    side, apart, n = known.is_canary - columns.q, known.total - columns.mean * known.n, known.n
    observed = _by_unit(columns.unit, columns.scale * side * apart, columns.scale * side**2 * n)
    return Contrast(
        gain=float(side @ apart),
        information=float(side**2 @ n),
        observed=_products(observed, observed),
        assigned=_assigned(known, columns.unit, columns.scale * apart, columns.scale * side * n),
        canary=_arm(known.rows(known.is_canary)),
        stable=_arm(known.rows(~known.is_canary)),
    )


def interval(sums: Contrast, alpha: float) -> tuple[float, float]:
    """Bounds of the difference: each is passed by the truth at any look with a probability of at most ``alpha``.

    A difference theta lies inside while |gain - theta information| is less than the boundary times the noise at that
    theta: between the roots of a quadratic. Infinite where the units are too few to tell.
    """
    low, high = bounds(np.array([sums.gain, sums.information, *sums.observed, *sums.assigned]), alpha)
    return float(low), float(high)


def bounds(sums: Floats, alpha: float) -> tuple[Floats, Floats]:
    """:func:`interval` of many contrasts at once: ``sums`` [8, ...] are gain, information, observed and assigned."""
    gain, information = sums[:2]
    squared = boundary(information, alpha) ** 2
    both = [_roots(gain, information, squared, *noise) for noise in (sums[2:5], sums[5:8])]
    return np.minimum(both[0][0], both[1][0]), np.maximum(both[0][1], both[1][1])


def _roots(gain: Floats, information: Floats, squared: Floats, gg: Floats, gw: Floats, ww: Floats) -> Sequence[Floats]:
    """The two theta with (gain - theta information)^2 = squared (gg - 2 theta gw + theta^2 ww)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = information**2 - squared * ww, gain * information - squared * gw
        root = np.sqrt(np.maximum(b**2 - a * (gain**2 - squared * gg), 0.0))
        low, high = (b - root) / a, (b + root) / a
    told = np.isfinite(squared) & (a > 0)
    return np.where(told, low, -np.inf), np.where(told, high, np.inf)


class _Columns(NamedTuple):
    """Of each row: its unit's number, and its cohort's canary share, mean, and sqrt(units / (units - 1))."""

    unit: NDArray[np.intp]
    q: Floats
    mean: Floats
    scale: Floats

    def rows(self, which: NDArray[np.bool_]) -> _Columns:
        return _Columns(self.unit[which], self.q[which], self.mean[which], self.scale[which])


def _columns(rewards: Rewards) -> _Columns:
    cohort = np.unique(rewards.cohort, return_inverse=True)[1]
    unit = np.unique(rewards.unit, return_inverse=True)[1]
    n = np.bincount(cohort, rewards.n)
    most = int(unit.max(initial=0)) + 1
    units = np.bincount(np.unique(cohort * most + unit) // most, minlength=len(n))
    share, total = np.bincount(cohort, rewards.n * rewards.is_canary), np.bincount(cohort, rewards.total)
    scale = np.sqrt(units / np.maximum(units - 1, 1))
    return _Columns(unit, (share / n)[cohort], (total / n)[cohort], scale[cohort])


def _by_unit(unit: NDArray[np.intp], *columns: Floats) -> list[Floats]:
    return [np.bincount(unit, column).astype(np.float64) for column in columns]


def _products(one: Sequence[Floats], other: Sequence[Floats]) -> tuple[float, float, float]:
    """gg, gw and ww of two pairs (g, w) of columns by unit."""
    return float(one[0] @ other[0]), float(one[0] @ other[1] + one[1] @ other[0]) / 2, float(one[1] @ other[1])


def _assigned(rewards: Rewards, unit: NDArray[np.intp], apart: Floats, weight: Floats) -> tuple[float, float, float]:
    """The variance over the units' places, which are drawn once, evenly, and kept while shares grow.

    Below share q a unit is the canary's, so its parts in stages of the shares q1 and q2 vary together by
    min(q1, q2) - q1 q2.
    """
    found = []
    for stage in np.unique(rewards.stage):
        here = rewards.stage == stage
        share = float(rewards.n[here] @ rewards.is_canary[here]) / float(rewards.n[here].sum())
        found.append((share, _by_unit(unit, apart * here, weight * here)))
    sums = np.zeros(3)
    for q1, one in found:
        for q2, other in found:
            sums += (min(q1, q2) - q1 * q2) * np.array(_products(one, other))
    return float(sums[0]), float(sums[1]), float(sums[2])


def _arm(rewards: Rewards) -> Arm:
    n = int(rewards.n.sum())
    mean = float(rewards.total.sum()) / n if n else 0.0
    return Arm(n, len(np.unique(rewards.unit)), mean)
