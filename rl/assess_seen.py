"""What is noted of the calls and of the rewards of trajectories, one by one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from rl.assess_counts import MOST_KEYS, Extent, Tally
from rl.assess_groups import Groups, merged
from rl.assess_report import Calls, Grouping, Rewards
from rl.records import Call, Trajectory

VERSION = re.compile(r".+-v\d+\.\d+\.\d+")
"""How our versions are named: ``babylon-agent-v1.0.3``."""


def has_reward(trajectory: Trajectory) -> bool:
    """Whether somebody said how the episode went."""
    return trajectory.metadata.get("reward", trajectory.reward) is not None


def has_scenario(trajectory: Trajectory) -> bool:
    """Whether somebody named the scenario."""
    return trajectory.metadata.get("scenario_id", trajectory.scenario_id) is not None


@dataclass
class Hour:
    """Trajectories that ended in one hour, and those of them that are on-policy."""

    rows: int = 0
    on_policy: int = 0


@dataclass
class Heard:
    """Calls by model and by what they carry. ``own`` names our versions; None goes by how their names look."""

    own: Collection[str] | None = None
    models: Tally[str] = field(default_factory=Tally)
    marks: Counter[str] = field(default_factory=Counter)
    calls: Extent = field(default_factory=Extent)
    turns: Extent = field(default_factory=Extent)
    hours: dict[str, Hour] = field(default_factory=dict)
    on_policy: int = 0

    def take(self, trajectory: Trajectory, hour: str) -> bool:
        """Note a trajectory's calls, and say whether an on-policy objective could take all that say something."""
        self.calls.add(len(trajectory.calls))
        self.turns.add(len(trajectory.turns))
        noted = [(self._note(call), call.token_ids) for call in trajectory.calls]
        ours = [own for own, said in noted if said is None or said]
        on_policy = bool(ours) and all(ours)
        at = self.hours.setdefault(hour, Hour())
        at.rows += 1
        at.on_policy += on_policy
        self.on_policy += on_policy
        return on_policy

    def seen(self) -> Calls:
        """Counts and shares of all calls so far."""
        total = self.calls.total
        share = {name: count / total for name, count in self.marks.items()} if total else {}
        return Calls(
            total=total,
            by_model=self.models.shown(),
            per_trajectory=self.calls.range(),
            turns_per_trajectory=self.turns.range(),
            with_tokens_share=share.get("tokens"),
            with_logprobs_share=share.get("logprobs"),
            tool_calls_share=share.get("tool_calls"),
            reasoning_share=share.get("reasoning"),
            own=self.marks["own"],
            on_policy_trajectories=self.on_policy,
            on_policy_hours=sum(hour.on_policy == hour.rows for hour in self.hours.values()),
        )

    def _note(self, call: Call) -> bool:
        self.models.add(call.model)
        own = call.has_tokens and self._is_ours(call.model)
        self.marks.update(
            tokens=bool(call.prompt_token_ids and call.token_ids),
            logprobs=call.has_tokens,
            tool_calls=bool(call.response.tool_calls),
            reasoning=bool(call.response.reasoning_content),
            own=own,
        )
        return own

    def _is_ours(self, model: str) -> bool:
        return model in self.own if self.own is not None else VERSION.fullmatch(model) is not None


@dataclass
class Earned:
    """Rewards, over all and by group. Trajectories without a reward count in the sizes of groups alone."""

    values: Tally[float] = field(default_factory=Tally)
    own_values: set[float] = field(default_factory=set)
    rewarded: Groups = field(default_factory=Groups)
    unrewarded: Groups = field(default_factory=Groups)
    own: Groups = field(default_factory=Groups)
    count: int = 0
    missing: int = 0
    zeros: int = 0
    unnamed: int = 0
    total: float = 0.0
    least: float = float("inf")
    most: float = float("-inf")

    def take(self, trajectory: Trajectory, group: int, *, on_policy: bool) -> None:
        """Note what a trajectory of the group ``group`` earned."""
        reward = trajectory.reward
        self.unnamed += not has_scenario(trajectory)
        if not has_reward(trajectory):
            self.missing += 1
            self.unrewarded.add(group, 0.0)
            return
        self.count += 1
        self.zeros += reward == 0
        self.total += reward
        self.least, self.most = min(self.least, reward), max(self.most, reward)
        self.values.add(reward)
        self.rewarded.add(group, reward)
        if on_policy:
            self.own.add(group, reward)
            if len(self.own_values) < 2:
                self.own_values.add(reward)

    def rewards(self) -> Rewards:
        """Statistics over all trajectories that have a reward."""
        known = self.count > 0
        return Rewards(
            missing=self.missing,
            distinct=len(self.values.counts),
            distinct_most=MOST_KEYS,
            zero_share=self.zeros / self.count if known else None,
            mean=self.total / self.count if known else None,
            least=self.least if known else None,
            most=self.most if known else None,
        )

    def groups(self) -> Grouping:
        """Sizes of all groups, and how the rewards in them vary."""
        rewarded = self.rewarded.moments()
        together = merged(rewarded, self.unrewarded.moments())
        members = int(together.count.sum())
        return Grouping(
            count=len(together.count),
            sizes=together.sizes(),
            differing=int(rewarded.differing.sum()),
            variance=rewarded.spread(),
            lone_share=float((together.count == 1).sum() / members) if members else None,
            unnamed_scenarios=self.unnamed,
        )
