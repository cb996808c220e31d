"""Whether a candidate is released: as its gate's policy says, and without one where there is nothing to compare.

A type of scenario that is credibly worse vetoes, as it does when a checkpoint is chosen: a policy may look at the total
alone, and a version trained once has no choice among checkpoints before its decision.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from rl.policies import Gate, judge
from rl.selection import Candidate, shown, vetoes
from rl.verdicts import EnvironmentVerdict, PolicyDecision, Verdicts, WorseType

NOTHING_TO_COMPARE = "the first version of its line: nothing to compare with"


def decide(verdicts: Verdicts, gate: Gate, *, is_first: bool = False) -> PolicyDecision:
    """The decision about the candidate of ``verdicts``. The first version of a line is released without a comparison.

    A version that the policy would release is not where it is credibly worse in a type of scenario.

    Raises:
        InvalidInput: the versions have no environment in common, or scores that the policy cannot take.
    """
    if is_first:
        change = "a stable version to compare with"
        return _without_comparison(verdicts, gate, NOTHING_TO_COMPARE, change, released=True)
    found, worse = judge(verdicts, gate), worse_types(verdicts)
    if not worse:
        return found
    vetoed: dict[str, Any] = {"worse": tuple(worse)}
    if found.released:
        counts = "; ".join(f"{one.type} {shown(one.candidate)} against {shown(one.stable)}" for one in worse)
        said = ", ".join(f"{one.p:.4f}" for one in worse)
        vetoed |= {
            "released": False,
            "reason": f"vetoed by type: {counts} (P(worse) = {said}); but for that released: {found.reason}",
            "would_change": f"verdicts that do not make {', '.join(one.type for one in worse)} credibly worse",
        }
    return found.model_copy(update=vetoed)


def worse_types(verdicts: Verdicts) -> list[WorseType]:
    """The types that veto, by ``rl.selection.vetoes``; none where all scenarios are of one: that is the policy's."""
    sides: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {}
    for name in verdicts.environments:
        candidate, stable = verdicts.candidate.get(name, {}), verdicts.stable.get(name, {})
        if both := candidate.keys() & stable.keys():
            sides[name] = _count(candidate, both), _count(stable, both)
    if len(sides) < 2:
        return []
    mine, theirs = (Candidate(step=step, types={name: one[1 - step] for name, one in sides.items()}) for step in (1, 0))
    return [
        WorseType(type=one.type, p=round(one.p, 6), candidate=sides[one.type][0], stable=sides[one.type][1])
        for one in vetoes(mine, theirs)
    ]


def _count(scores: Mapping[str, float], scenarios: Collection[str]) -> tuple[int, int]:
    return math.floor(sum(scores[one] for one in scenarios) + 1e-9), len(scenarios)


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
