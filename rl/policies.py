"""Whether a candidate is good enough to be released over the stable version, from held-out verdicts, by a named policy.

A policy is a pure function of the verdicts of both versions and the gate's numbers. ``POLICIES`` names them; ``judge``
calls one. Every decision carries counts, intervals, the policy's name and what would have changed it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import Field

from rl.dominance import (
    AFFINE_2025_10,
    AFFINE_2025_12,
    CHAMPION_2026_07,
    affine_2025_10,
    affine_2025_12,
    champion_2026_07,
)
from rl.errors import InvalidInput
from rl.paired_margin import NAME, decide
from rl.training import Config
from rl.verdicts import PolicyDecision, Verdicts

PolicyName = Literal["paired-margin", "affine-2025-10", "affine-2025-12", "champion-2026-07"]


class Gate(Config):
    """The policy and its numbers.

    min_probability, margin: of paired-margin: P(better by more than ``margin``) must reach it. A margin below 0 lets a
        version pass that may be so much worse.
    min_scenarios: verdicts that both versions need, in each environment where the policy looks at each. The published
        number of affine-2025-10.
    """

    policy: PolicyName = "paired-margin"
    min_probability: float = Field(0.95, gt=0.5, lt=1)
    margin: float = Field(0.01, gt=-1, lt=1)
    min_scenarios: int = Field(200, ge=1)


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
