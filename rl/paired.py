"""Two versions judged on the same scenarios: only the scenarios on which they differ tell them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import bdtr

from rl.errors import InvalidInput
from rl.intervals import check_count
from rl.records import Record
from rl.selection import Candidate

Verdicts = Mapping[str, bool | None]
"""By scenario; None where there is no verdict."""


class Pairs(Record):
    """Scenarios that both versions have a verdict on."""

    both: int
    only_first: int
    only_second: int
    neither: int

    @property
    def n(self) -> int:
        """All of them."""
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def differences(self) -> list[int]:
        """First minus second, scenario by scenario, in no order."""
        return [1] * self.only_first + [-1] * self.only_second + [0] * (self.both + self.neither)


def pair(first: Verdicts, second: Verdicts) -> Pairs:
    """Count the scenarios that both have a verdict on; the others tell nothing about the difference."""
    shared = [(a, b) for name, a in first.items() if a is not None and (b := second.get(name)) is not None]
    return Pairs(
        both=sum(a and b for a, b in shared),
        only_first=sum(a and not b for a, b in shared),
        only_second=sum(b and not a for a, b in shared),
        neither=sum(not a and not b for a, b in shared),
    )


def exact_p(only_first: int, only_second: int) -> float:
    """Two-sided p of the exact McNemar test: if the versions are equal, discordant scenarios are tosses of a fair coin.

    Raises:
        InvalidInput: a count below 0.
    """
    check_count(0, only_first)
    check_count(0, only_second)
    discordant = only_first + only_second
    return min(1.0, 2 * float(bdtr(min(only_first, only_second), discordant, 0.5)))


def bootstrap_better(differences: Sequence[int]) -> float:
    """P(the mean of a bootstrap sample of the scenarios is above 0) + half of P(it is 0), exactly, not sampled.

    ``differences`` are first minus second of each scenario: -1, 0, 1 for one verdict each, or the difference of the
    successes where each version has the same number of samples of every scenario (a cluster bootstrap). The sum over
    a bootstrap sample is distributed as the n-fold convolution of the observed differences, which is a power of their
    Fourier transform. No scenarios: 1/2.

    Raises:
        InvalidInput: a difference that is not a whole number.
    """
    observed = np.asarray(differences)
    if observed.size == 0:
        return 0.5
    if observed.dtype.kind not in "iu":
        raise InvalidInput("differences", differences, "give whole numbers, successes of the first minus the second")
    n, width = observed.size, int(np.abs(observed).max())
    size = 2 * n * width + 1
    once = np.bincount(observed % size, minlength=size) / n
    sums = np.fft.irfft(np.fft.rfft(once) ** n, size)
    above = float(sums[1 : n * width + 1].sum()) + float(sums[0]) / 2
    return min(max(above, 0.0), 1.0)


class PairedVerdicts:
    """Compares candidates by the paired bootstrap over all scenarios that both have a verdict on.

    ``verdicts`` are by step and type. The score stays the posterior mean of the overall rate.
    """

    def __init__(self, verdicts: Mapping[int, Mapping[str, Verdicts]]) -> None:
        self._verdicts = verdicts

    def score(self, candidate: Candidate) -> float:
        return candidate.posterior_mean

    def better(self, one: Candidate, other: Candidate) -> float:
        pairs = (pair(self._verdicts[one.step][name], self._verdicts[other.step][name]) for name in one.types)
        return bootstrap_better([difference for found in pairs for difference in found.differences])
