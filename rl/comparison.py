"""How probable it is that one success rate is higher than others, from counts. Uniform priors, independent rates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from math import comb

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaincinv, ndtr

from rl.intervals import check_count

Floats = NDArray[np.float64]

IN_INTEGERS = 2000
"""Up to so many verdicts of both together the sum is done in integers, so that the answer is rounded only once."""

REACH = 16
"""How many standard deviations from the mode terms still count; all beyond them are below 1e-50 of the sum."""

EDGES = ndtr(np.arange(-8.0, 8.5))
NODES, WEIGHTS = np.polynomial.legendre.leggauss(12)


@lru_cache(maxsize=4096)
def probability_better(k1: int, n1: int, k2: int, n2: int) -> float:
    """P(p1 > p2) for independent p ~ Beta(1 + k, 1 + n - k), exact.

    Beta(1 + k, 1 + n - k) is the (k + 1)-th smallest of n + 1 uniform numbers. Mix n1 + 1 such numbers with n2 + 1
    others: p1 > p2 if and only if at most k1 of the k1 + k2 + 1 smallest are from the first, which is a
    hypergeometric tail (Altham, "Exact Bayesian analysis of a 2 x 2 contingency table", 1969).

    Raises:
        InvalidInput: not 0 <= k <= n.
    """
    check_count(k1, n1)
    check_count(k2, n2)
    if n1 + n2 <= IN_INTEGERS:
        return _tail_in_integers(k1, n1 + 1, n2 + 1, k1 + k2 + 1)
    return _tail(k1, n1 + 1, n2 + 1, k1 + k2 + 1)


def probability_best(counts: Sequence[tuple[int, int]]) -> list[float]:
    """P(this rate is the highest) for each ``(k, n)``, by Gauss-Legendre quadrature; they sum to 1 within 1e-9.

    Raises:
        InvalidInput: not 0 <= k <= n.
    """
    for k, n in counts:
        check_count(k, n)
    number_of = Counter(counts)
    distinct = sorted(number_of)
    p, weights = _nodes(distinct)
    below = np.array([betainc(1 + k, 1 + n - k, p) for k, n in distinct])
    times = np.array([number_of[count] for count in distinct])
    found = {}
    for number, (k, n) in enumerate(distinct):
        others = times - (np.arange(len(distinct)) == number)
        density = weights * _density(k, n, p)
        found[k, n] = float((density * np.prod(below ** others[:, None], axis=0)).sum() / density.sum())
    return [found[count] for count in counts]


def _tail_in_integers(most: int, mine: int, theirs: int, drawn: int) -> float:
    first = max(0, drawn - theirs)
    term = comb(mine, first) * comb(theirs, drawn - first)
    tail = term
    for h in range(first, most):
        term = term * (mine - h) * (drawn - h) // ((h + 1) * (theirs - drawn + h + 1))
        tail += term
    return tail / comb(mine + theirs, drawn)


def _tail(most: int, mine: int, theirs: int, drawn: int) -> float:
    """The same in floats, from ratios of neighbouring terms: no logarithm of a huge number is subtracted."""
    total = mine + theirs
    mode = (drawn + 1) * (mine + 1) // (total + 2)
    share = mine / total
    deviation = (drawn * share * (1 - share) * (total - drawn) / (total - 1)) ** 0.5
    reach = int(REACH * deviation) + 2 * REACH
    low, high = max(0, drawn - theirs, mode - reach), min(mine, drawn, mode + reach)
    if most < low or most >= high:
        return float(most >= high)
    h = np.arange(low, high, dtype=np.float64)
    ratios = np.log((mine - h) / (h + 1)) + np.log((drawn - h) / (theirs - drawn + h + 1))
    logs = np.concatenate(([0.0], np.cumsum(ratios)))
    terms = np.exp(logs - logs.max())
    return min(float(terms[: most - low + 1].sum() / terms.sum()), 1.0)


def _density(k: int, n: int, p: Floats) -> Floats:
    """Beta(1 + k, 1 + n - k) at ``p``, over its value at its mode."""
    mode = k / n if n else 0.5
    up = k * np.log1p((p - mode) / mode) if k else np.zeros_like(p)
    down = (n - k) * np.log1p((mode - p) / (1 - mode)) if k < n else np.zeros_like(p)
    return np.asarray(np.exp(up + down), dtype=np.float64)


def _nodes(counts: Sequence[tuple[int, int]]) -> tuple[Floats, Floats]:
    """Places and weights: panels between quantiles of every posterior, none much wider than any of them there."""
    edges = np.sort(np.concatenate([betaincinv(1 + k, 1 + n - k, EDGES) for k, n in counts]))
    width = min(((k + 1) * (n - k + 1) / (n + 3)) ** 0.5 / (n + 2) for k, n in counts)
    slots = np.unique((edges / (width / 2)).astype(np.int64), return_index=True)[1]
    kept = np.unique(np.concatenate((edges[slots], edges[-1:])))
    middle, half = (kept[1:] + kept[:-1]) / 2, (kept[1:] - kept[:-1]) / 2
    return (middle[:, None] + half[:, None] * NODES).ravel(), (half[:, None] * WEIGHTS).ravel()
