"""How a canary grows: from share to share, each for a time and with a least of traffic, or back at once.

1. The test says roll back: roll back, whatever the stage.
2. Time, requests or rewards are missing: hold. All three are counted in this stage.
3. The next share is below 100: advance once the primary signal rules out, at all looks together, that the canary is
   worse by ``tolerance`` or more. Where ``tolerance`` is None: once the test does not say roll back.
4. The next share is 100, or there is none and this one is below: only when the test says promote.
5. At 100 the goal was reached before: finish. The canary becomes the stable version. Until then rewards of earlier
   stages still come, and may still roll it back.
6. The goal is not reached after ``give_up_rewards`` of the canary: roll back as undecided. The stable version stays,
   because nothing says that the canary is better; an equal version ends here.

Without rewards 2 to 4 hold for ever, and the reason says so: time alone never advances a canary.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal, Self

from pydantic import Field, model_validator

from rl.errors import InvalidInput
from rl.records import Record
from rl.sequential import Verdict
from rl.training import Config

Action = Literal["hold", "advance", "roll back", "finish"]
Cause = Literal["worse", "failing", "undecided"]


class Stage(Config):
    """A share in per cent, and what must have been seen at it: of the canary, in this stage alone."""

    share: int = Field(ge=1, le=100)
    soak_hours: float = Field(24.0, ge=0)
    min_requests: int = Field(100, ge=0)
    min_rewards: int = Field(0, ge=0)
    tolerance: float | None = Field(None, ge=0)


class Stages(Config):
    """The way to the whole of the traffic. ``give_up_rewards`` None: a canary that is not better waits for a person."""

    stages: tuple[Stage, ...] = (
        Stage(share=10, min_rewards=100, tolerance=0.15),
        Stage(share=50, min_rewards=100),
        Stage(share=100),
    )
    give_up_rewards: int | None = Field(5000, ge=1)

    @model_validator(mode="after")
    def _grow(self) -> Self:
        shares = [stage.share for stage in self.stages]
        if not shares or any(later <= earlier for earlier, later in pairwise(shares)):
            raise ValueError(f"stages = {shares}: give at least one share, each greater than the one before")
        return self


class Progress(Record):
    """Where a canary is: the stage's index, and what was seen of the canary in it and altogether."""

    stage: int = Field(ge=0)
    hours: float = Field(ge=0)
    requests: int = Field(ge=0)
    rewards: int = Field(ge=0)
    rewards_altogether: int = Field(ge=0)


class Step(Record):
    """What to do. ``share`` is what the canary has after it: 0 once rolled back, 100 once finished."""

    action: Action
    share: int
    reason: str
    cause: Cause | None = None


def step(stages: Stages, progress: Progress, verdict: Verdict) -> Step:
    """The rule at the top of this file.

    Raises:
        InvalidInput: there is no such stage.
    """
    if progress.stage >= len(stages.stages):
        raise InvalidInput("stage", progress.stage, f"give an index below {len(stages.stages)}")
    if verdict.say == "roll back":
        cause: Cause = "failing" if verdict.cause == "failing" else "worse"
        return Step(action="roll back", share=0, reason=verdict.reason, cause=cause)
    here = stages.stages[progress.stage]
    following = stages.stages[progress.stage + 1] if progress.stage + 1 < len(stages.stages) else None
    if undecided := _undecided(stages, here, progress, verdict):
        return Step(action="roll back", share=0, reason=undecided, cause="undecided")
    if missing := _missing(here, progress) or _unproven(here, following, verdict):
        return Step(action="hold", share=here.share, reason=f"{missing}; {verdict.reason}")
    if following is None:
        return Step(action="finish", share=100, reason=verdict.reason)
    return Step(
        action="advance", share=following.share, reason=f"{here.share} % to {following.share} %: {verdict.reason}"
    )


def _undecided(stages: Stages, here: Stage, progress: Progress, verdict: Verdict) -> str:
    limit = stages.give_up_rewards
    if limit is None or progress.rewards_altogether < limit or here.share == 100 or verdict.say == "promote":
        return ""
    return f"not shown to be better in {progress.rewards_altogether:,} rewards; {verdict.reason}"


def _missing(here: Stage, progress: Progress) -> str:
    """What this stage has too little of, in words; empty when it has enough."""
    lacks = []
    if progress.hours < here.soak_hours:
        lacks.append(f"{math.floor(progress.hours * 10) / 10:g} of {here.soak_hours:g} hours")
    if progress.requests < here.min_requests:
        lacks.append(f"{progress.requests:,} of {here.min_requests:,} requests")
    if progress.rewards < here.min_rewards:
        lacks.append(f"{progress.rewards:,} of {here.min_rewards:,} rewards")
    return f"at {here.share} %: {', '.join(lacks)}" if lacks else ""


def _unproven(here: Stage, following: Stage | None, verdict: Verdict) -> str:
    """What the evidence does not show yet that the next step needs; empty when it shows it."""
    if here.share == 100 or verdict.say == "promote":
        return ""
    if following is None or following.share == 100:
        return f"at {here.share} %: more than that needs a canary that is shown to be better"
    if here.tolerance is None or (verdict.lower is not None and verdict.lower > -here.tolerance):
        return ""
    return f"at {here.share} %: it may be worse by {here.tolerance:g} or more"
