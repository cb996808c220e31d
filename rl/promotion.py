"""Whether a version is released over the stable one, from held-out verdicts.

A version is released when P(its success rate is higher than the stable version's) is at least the policy's
minimum, with both judged on enough scenarios. The first version of a line has nothing to beat.
"""

from __future__ import annotations

from rl.config import Release
from rl.intervals import check_count
from rl.records import Record
from rl.selection import probability_better

POLICY = "probability-better"
"""Independent rates, uniform priors."""


class Decision(Record):
    """What was decided, with its evidence. ``probability`` is None where nothing was compared."""

    released: bool
    probability: float | None
    policy: str
    reason: str
    would_change: str


def decide(candidate: tuple[int, int], stable: tuple[int, int] | None, policy: Release) -> Decision:
    """Compare successes and verdicts ``(k, n)`` of the candidate with the stable version's; None: there is none.

    Raises:
        InvalidInput: not 0 <= k <= n.
    """
    check_count(*candidate)
    if stable is None:
        return _decision(True, None, "the first version of its line", "a stable version that is not credibly worse")
    check_count(*stable)
    for name, (_, n) in (("candidate", candidate), ("stable", stable)):
        if n < policy.min_scenarios:
            reason = f"the {name} version was judged on {n} scenarios, fewer than {policy.min_scenarios}"
            return _decision(False, None, reason, f"{policy.min_scenarios - n} more verdicts on the {name} version")
    probability = probability_better(*candidate, *stable)
    released = probability >= policy.min_probability
    reason = (
        f"{_shown(candidate)} against {_shown(stable)}: P(better) = {probability:.4f}, "
        f"{'at least' if released else 'below'} {policy.min_probability:g}"
    )
    return _decision(released, probability, reason, _would_change(released, candidate[1], stable, policy))


def successes_needed(n: int, stable: tuple[int, int], min_probability: float) -> int | None:
    """The fewest successes of ``n`` that are better than ``stable`` with that probability; None: not even all."""
    low, high = 0, n + 1
    while low < high:
        middle = (low + high) // 2
        if probability_better(middle, n, *stable) >= min_probability:
            high = middle
        else:
            low = middle + 1
        if low > n:
            return None
    return low


def _would_change(released: bool, n: int, stable: tuple[int, int], policy: Release) -> str:
    needed = successes_needed(n, stable, policy.min_probability)
    if needed is None:
        return f"more scenarios: not even {n} of {n} would be enough"
    return f"{needed - 1} successes of {n} or fewer" if released else f"{needed} successes of {n} or more"


def _shown(count: tuple[int, int]) -> str:
    k, n = count
    return f"{k}/{n} ({k / n:.1%})"


def _decision(released: bool, probability: float | None, reason: str, would_change: str) -> Decision:
    return Decision(released=released, probability=probability, policy=POLICY, reason=reason, would_change=would_change)
