"""Success rates of several types, weighted: a mean of independent posteriors instead of the posterior of a mean.

The distribution of sum w p, p ~ Beta(1 + k, 1 + n - k), is the convolution of its parts on a lattice whose step is
1/200 of the narrowest candidate's standard deviation; probabilities are within 1e-6 of the integrals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc

from rl.errors import InvalidInput
from rl.selection import Candidate

Floats = NDArray[np.float64]

FINENESS = 200
MOST_CELLS = 2**20
REACH = 24
TINY = 1e-300


class Weighted:
    """Compares candidates of the same types by their weighted mean rates. Weights are divided by their sum."""

    basis: ClassVar[str] = "the weighted rates"
    """What its probabilities are of, in words."""

    def __init__(self, candidates: Sequence[Candidate], weights: Mapping[str, float]) -> None:
        total = math.fsum(weights.get(name, 0.0) for name in candidates[0].types)
        unknown = [name for name in weights if name not in candidates[0].types]
        if unknown or not 0 < total < math.inf or any(not 0 <= one < math.inf for one in weights.values()):
            remedy = f"give some of {', '.join(candidates[0].types)} weights of 0 or more, not all 0"
            raise InvalidInput("weights", dict(weights), remedy)
        self.weights = {name: weights.get(name, 0.0) / total for name in candidates[0].types if weights.get(name)}
        narrowest = min(self._deviation(one) for one in candidates)
        self.step = max(narrowest / FINENESS, 1 / MOST_CELLS)
        first, size, masses = self._on_one_lattice([self._masses(one) for one in candidates])
        self._middles = (np.arange(first, first + size) + len(self.weights) / 2) * self.step
        self._masses_of = {one.step: mass for one, mass in zip(candidates, masses, strict=True)}

    def score(self, candidate: Candidate) -> float:
        """The posterior mean of the weighted rate."""
        parts = ((self.weights[name], *candidate.types[name]) for name in self.weights)
        return math.fsum(weight * (k + 1) / (n + 2) for weight, k, n in parts)

    def better(self, one: Candidate, other: Candidate) -> float:
        """P(the first one's weighted rate is higher)."""
        return float((self._masses_of[one.step] * self._below(other)).sum())

    def best(self, candidates: Sequence[Candidate]) -> list[float]:
        """P(its weighted rate is the highest) for each of them."""
        logs = np.zeros_like(self._middles)
        for one in candidates:
            logs += np.log(np.maximum(self._below(one), TINY))
        found = []
        for one in candidates:
            others = np.exp(logs - np.log(np.maximum(self._below(one), TINY)))
            found.append(float((self._masses_of[one.step] * others).sum()))
        return found

    def interval(self, candidate: Candidate, mass: float = 0.8) -> tuple[float, float]:
        """Equal-tailed interval that holds so much of the posterior."""
        below = self._below(candidate)
        low, high = np.interp([(1 - mass) / 2, (1 + mass) / 2], below, self._middles)
        return float(low), float(high)

    def _below(self, candidate: Candidate) -> Floats:
        mass = self._masses_of[candidate.step]
        return np.asarray(np.cumsum(mass) - mass / 2, dtype=np.float64)

    def _deviation(self, candidate: Candidate) -> float:
        return math.sqrt(math.fsum((w * _deviation(*candidate.types[name])) ** 2 for name, w in self.weights.items()))

    def _masses(self, candidate: Candidate) -> tuple[int, Floats]:
        """Where the lattice of its distribution begins, and the probability of each cell."""
        first, masses = 0, np.ones(1)
        for name, weight in self.weights.items():
            begin, part = self._part(*candidate.types[name], weight)
            size = len(masses) + len(part) - 1
            masses = np.maximum(np.fft.irfft(np.fft.rfft(masses, size) * np.fft.rfft(part, size), size), 0.0)
            first += begin
        return first, masses / masses.sum()

    def _part(self, k: int, n: int, weight: float) -> tuple[int, Floats]:
        mean, reach = (k + 1) / (n + 2), REACH * _deviation(k, n)
        low = math.floor(max(0.0, mean - reach) * weight / self.step)
        high = math.ceil(min(1.0, mean + reach) * weight / self.step)
        edges = np.clip(np.arange(low, high + 1) * self.step / weight, 0.0, 1.0)
        return low, np.diff(betainc(1 + k, 1 + n - k, edges))

    @staticmethod
    def _on_one_lattice(parts: Sequence[tuple[int, Floats]]) -> tuple[int, int, list[Floats]]:
        first = min(begin for begin, _ in parts)
        size = max(begin + len(masses) for begin, masses in parts) - first
        return (
            first,
            size,
            [np.pad(masses, (begin - first, size - begin + first - len(masses))) for begin, masses in parts],
        )


def _deviation(k: int, n: int) -> float:
    """Standard deviation of Beta(1 + k, 1 + n - k)."""
    return math.sqrt((k + 1) * (n - k + 1) / (n + 3)) / (n + 2)
