"""Held-out verdicts of two versions, and the decision that a policy makes of them."""

from __future__ import annotations

from scipy.special import betaincinv

from rl.records import Finite, Record

Scores = dict[str, dict[str, Finite]]
"""By environment, by scenario: 1 for right and 0 for wrong; with several samples their mean."""


class Verdicts(Record):
    """What both versions scored. A scenario without a verdict is left out."""

    candidate: Scores
    stable: Scores

    @property
    def environments(self) -> list[str]:
        """All that one of the two was judged on, sorted."""
        return sorted(self.candidate.keys() | self.stable.keys())

    def tallies(self, environment: str) -> tuple[Tally, Tally]:
        """Of the candidate and of the stable version; empty ones where a version was not judged."""
        return tally(self.candidate.get(environment, {})), tally(self.stable.get(environment, {}))

    def overall(self) -> tuple[Tally, Tally]:
        """The same over the scenarios of all environments."""
        return _together(self.candidate), _together(self.stable)


class Tally(Record):
    """Of ``n`` scenarios, scores that sum to ``k``. ``interval`` holds 80 % of the posterior of their mean."""

    k: float
    n: int
    mean: float
    interval: tuple[float, float]


class EnvironmentVerdict(Record):
    """One environment: both tallies, and the policy's word for the candidate there."""

    environment: str
    candidate: Tally
    stable: Tally
    verdict: str


class Cells(Record):
    """Scenarios that both versions were judged on, by who was right. A scenario of several samples counts in parts."""

    both: float
    only_candidate: float
    only_stable: float
    neither: float

    @property
    def n(self) -> float:
        return self.both + self.only_candidate + self.only_stable + self.neither


class WorseType(Record):
    """A type of scenario in which the candidate is credibly worse than the stable version, with probability ``p``.

    ``candidate`` and ``stable`` are (k, n) of the scenarios of that type that both were judged on, k rounded down.
    """

    type: str
    p: float
    candidate: tuple[int, int]
    stable: tuple[int, int]


class PolicyDecision(Record):
    """What was decided, with its evidence. ``probability`` is None where nothing was compared or the policy has none.

    ``difference`` is (low, mean, high) of the success rates' difference, where it was judged. ``worse`` are the types
    that veto the candidate, where the policy looks at the total alone.
    """

    released: bool
    probability: float | None
    policy: str
    reason: str
    would_change: str
    environments: list[EnvironmentVerdict]
    cells: Cells | None = None
    difference: tuple[float, float, float] | None = None
    worse: tuple[WorseType, ...] = ()


def tally(scores: dict[str, float]) -> Tally:
    """Count, sum, mean and 80 % interval of one version's scores."""
    k, n = sum(scores.values()), len(scores)
    return Tally(k=k, n=n, mean=k / n if n else 0.0, interval=interval_80(k, n))


def _together(scores: Scores) -> Tally:
    return tally({f"{name}/{scenario}": one for name, found in scores.items() for scenario, one in found.items()})


def interval_80(k: float, n: int) -> tuple[float, float]:
    """Equal-tailed 80 % of Beta(0.5 + k, 0.5 + n - k), ``k`` clamped to 0..n; (0, 0) without scenarios."""
    if n == 0:
        return 0.0, 0.0
    k = min(max(k, 0.0), float(n))
    a, b = 0.5 + k, 0.5 + n - k
    return float(betaincinv(a, b, 0.1)), float(betaincinv(a, b, 0.9))
