"""Whether a candidate is released: as its gate's policy says, and without one where there is nothing to compare."""

from __future__ import annotations

from rl.policies import Gate, judge
from rl.verdicts import EnvironmentVerdict, PolicyDecision, Verdicts

NOTHING_TO_COMPARE = "the first version of its line: nothing to compare with"


def decide(verdicts: Verdicts, gate: Gate, *, is_first: bool = False) -> PolicyDecision:
    """The decision about the candidate of ``verdicts``. The first version of a line is released without a comparison.

    Raises:
        InvalidInput: the versions have no environment in common, or scores that the policy cannot take.
    """
    if not is_first:
        return judge(verdicts, gate)
    return _without_comparison(verdicts, gate, NOTHING_TO_COMPARE, "a stable version to compare with", released=True)


def no_improvement(name: str, verdicts: Verdicts, gate: Gate) -> PolicyDecision:
    """Of a run whose choice is the version called ``name``, with which it is to be compared: nothing is released."""
    reason = f"no improvement: {name} itself did best on the validation scenarios"
    change = "a later version that does better on the validation scenarios"
    return _without_comparison(verdicts, gate, reason, change, released=False)


def _without_comparison(
    verdicts: Verdicts, gate: Gate, reason: str, would_change: str, *, released: bool
) -> PolicyDecision:
    found = []
    for name in verdicts.environments:
        candidate, stable = verdicts.tallies(name)
        found.append(EnvironmentVerdict(environment=name, candidate=candidate, stable=stable, verdict="not compared"))
    return PolicyDecision(
        released=released,
        probability=None,
        policy=gate.policy,
        reason=reason,
        would_change=would_change,
        environments=found,
    )
