"""By what a candidate is judged: the name of a policy and its numbers. Plain config, so that reading it is cheap."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rl.training import Config

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
