"""What an assessment says. Every share lies in 0..1; None where there is nothing to take a share of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rl.assess_counts import Range, Reason


@dataclass(frozen=True)
class Rows:
    """Rows of the source. ``usable`` are those read without the ones whose owner refused."""

    read: int
    trajectories: int
    usable: int
    quarantined: int
    reasons: list[Reason]


@dataclass(frozen=True)
class Time:
    """When the usable trajectories began and ended, and how many rows each hour window has."""

    first: str | None
    last: str | None
    hours: dict[str, int]
    days: int


@dataclass(frozen=True)
class Calls:
    """Calls of usable trajectories. ``own`` are those of our versions with everything an on-policy objective needs."""

    total: int
    by_model: dict[str, int]
    per_trajectory: Range | None
    turns_per_trajectory: Range | None
    with_tokens_share: float | None
    with_logprobs_share: float | None
    tool_calls_share: float | None
    reasoning_share: float | None
    own: int
    on_policy_trajectories: int
    on_policy_hours: int


@dataclass(frozen=True)
class Grouping:
    """Groups are trajectories of one scenario in one hour window. ``sizes`` maps a size to how many groups have it.

    ``variance`` is the mean of the groups' unbiased reward variances; ``lone_share`` is of trajectories.
    """

    count: int
    sizes: dict[int, int]
    differing: int
    variance: float | None
    lone_share: float | None
    unnamed_scenarios: int


@dataclass(frozen=True)
class Rewards:
    """Rewards of usable trajectories. ``distinct`` is exact up to ``distinct_most``; ``missing`` have none at all."""

    missing: int
    distinct: int
    distinct_most: int
    zero_share: float | None
    mean: float | None
    least: float | None
    most: float | None


@dataclass(frozen=True)
class Tokens:
    """Tokens of usable trajectories, every call counted whole; estimates are characters over a stated ratio.

    ``repeated_share`` of them the call before begins with too, ``group_share`` stand at the start of another trajectory
    of the group. ``computed`` is what a trainer that shares both computes once.
    """

    read: int
    spoken: int
    exact_share: float | None
    characters_a_token: float
    repeated_share: float | None
    group_share: float | None
    prefix_share: float | None
    computed: int


@dataclass(frozen=True)
class Day:
    """One pass over what a day brings, the mean over UTC days that have rows. Seconds need a rate to be known."""

    tokens: int
    computed: int
    tokens_per_second: float | None
    seconds: float | None
    seconds_unshared: float | None


@dataclass(frozen=True)
class Verdict:
    """Whether an objective may be trained on these logs, and why, or why not."""

    objective: str
    allowed: bool
    reason: str


@dataclass(frozen=True)
class Report:
    """Everything that is known of the logs, and what they can teach."""

    trainable: bool
    rows: Rows
    time: Time
    calls: Calls
    consent: dict[str, int]
    archetypes: dict[str, int]
    groups: Grouping
    rewards: Rewards
    tokens: Tokens
    day: Day
    objectives: list[Verdict]
    unlock: list[str]

    def as_json(self) -> dict[str, Any]:
        """The report in values that JSON has; the sizes of groups become text, as keys must."""
        plain = asdict(self)
        plain["groups"]["sizes"] = {str(size): groups for size, groups in self.groups.sizes.items()}
        return plain
