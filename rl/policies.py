"""Whether a candidate is good enough to be released over the stable version, from held-out verdicts, by a named policy.

A policy is a pure function of the verdicts of both versions and the gate's numbers. ``POLICIES`` names them; ``judge``
calls one. Every decision carries counts, intervals, the policy's name and what would have changed it.
"""

from __future__ import annotations

from collections.abc import Callable

from rl.dominance import (
    AFFINE_2025_10,
    AFFINE_2025_12,
    CHAMPION_2026_07,
    affine_2025_10,
    affine_2025_12,
    champion_2026_07,
)
from rl.errors import InvalidInput
from rl.gate import Gate
from rl.paired_margin import NAME, decide
from rl.verdicts import PolicyDecision, Verdicts

Policy = Callable[[Verdicts, Gate], PolicyDecision]

POLICIES: dict[str, Policy] = {
    NAME: lambda found, gate: decide(found, gate.min_probability, gate.margin, gate.min_scenarios),
    AFFINE_2025_10: lambda found, gate: affine_2025_10(found, gate.min_scenarios),
    AFFINE_2025_12: lambda found, gate: affine_2025_12(found, gate.min_scenarios),
    CHAMPION_2026_07: lambda found, gate: champion_2026_07(found, gate.min_scenarios),
}


def judge(verdicts: Verdicts, gate: Gate) -> PolicyDecision:
    """The decision of the gate's policy.

    Raises:
        InvalidInput: the versions have no environment in common, or scores that the policy cannot take.
    """
    if not verdicts.candidate.keys() & verdicts.stable.keys():
        both = (sorted(verdicts.candidate), sorted(verdicts.stable))
        raise InvalidInput("verdicts", both, "judge both versions on the same environments first")
    return POLICIES[gate.policy](verdicts, gate)
