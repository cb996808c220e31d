"""Whether a candidate is released: as its gate's policy says, and without one where there is nothing to compare.

``paired-margin`` looks at the total alone, so beside it a type of scenario that is credibly worse vetoes. Of T types
each has 0.2 / T to be called worse by chance, so that a version that is as good everywhere is vetoed in at most about
one of five decisions, however many types there are (Bonferroni). The other policies are published rules that look at
each environment, and nothing is added to them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from rl.gate import Gate
from rl.paired_margin import NAME
from rl.policies import judge
from rl.selection import CREDIBLE, probability_better, shown
from rl.verdicts import EnvironmentVerdict, PolicyDecision, Verdicts, WorseType

NOTHING_TO_COMPARE = "the first version of its line: nothing to compare with"


def decide(verdicts: Verdicts, gate: Gate, *, is_first: bool = False) -> PolicyDecision:
    """The decision about the candidate of ``verdicts``. The first version of a line is released without a comparison.

    A version that ``paired-margin`` would release is not where it is credibly worse in a type of scenario.

    Raises:
        InvalidInput: the versions have no environment in common, or scores that the policy cannot take.
    """
    if is_first:
        change = "a stable version to compare with"
        return _without_comparison(verdicts, gate, NOTHING_TO_COMPARE, change, released=True)
    found, worse = judge(verdicts, gate), worse_types(verdicts) if gate.policy == NAME else []
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
    """Of the T types with scenarios that both were judged on, those where P(its rate is lower) > 1 - 0.2 / T.

    Priors are uniform. None where all scenarios are of one type: that is the policy's.
    """
    sides: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {}
    for name in verdicts.environments:
        candidate, stable = verdicts.candidate.get(name, {}), verdicts.stable.get(name, {})
        if both := candidate.keys() & stable.keys():
            sides[name] = _count(candidate, both), _count(stable, both)
    if len(sides) < 2:
        return []
    above = 1 - (1 - CREDIBLE) / len(sides)
    worse = {name: probability_better(*stable, *candidate) for name, (candidate, stable) in sides.items()}
    return [
        WorseType(type=name, p=round(p, 6), candidate=sides[name][0], stable=sides[name][1])
        for name, p in sorted(worse.items())
        if p > above
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
