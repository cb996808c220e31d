"""Which objectives logs allow, why not the others, and what to log to unlock more.

sft takes any trajectory. weighted_sft and dpo compare trajectories of one group, whoever spoke. Objectives on our own
policy need windows in which every call is of one of our versions and carries token ids and log-probabilities; all but
ppo compare within groups too, or pool lone trajectories into one.
"""

from __future__ import annotations

from dataclasses import dataclass

from rl.assess_report import Calls, Grouping, Rewards, Rows, Verdict
from rl.objectives import OBJECTIVES, Dpo, Grouped, Objective, OnPolicy, WeightedSft

MOSTLY_LONE = 0.5
MANY_QUARANTINED = 0.05


@dataclass(frozen=True)
class Evidence:
    """What the verdicts rest on. ``own_differing`` and ``own_lone`` count groups of on-policy trajectories alone."""

    rows: Rows
    calls: Calls
    groups: Grouping
    rewards: Rewards
    consent: dict[str, int]
    own_differing: int
    own_lone: int
    own_distinct: int


def verdicts(seen: Evidence) -> list[Verdict]:
    """One for every objective, in the order of ``rl.objectives``."""
    return [_verdict(one, seen) for one in OBJECTIVES]


def _verdict(objective: type[Objective], seen: Evidence) -> Verdict:
    name = str(objective.model_fields["objective"].default)
    refusal = _refusal(objective, seen)
    return Verdict(name, refusal is None, refusal or _permission(objective, seen))


def _refusal(objective: type[Objective], seen: Evidence) -> str | None:
    if not seen.rows.usable:
        return "no usable trajectory"
    if issubclass(objective, OnPolicy):
        return _foreign(seen) or _unrewarded(seen) or _own_equal(objective, seen)
    if issubclass(objective, WeightedSft | Dpo):
        return _unrewarded(seen) or _equal(objective, seen)
    return None


def _unrewarded(seen: Evidence) -> str | None:
    if seen.rewards.missing == seen.rows.usable:
        return "no rewards"
    return "all rewards are equal" if seen.rewards.distinct == 1 else None


def _equal(objective: type[Objective], seen: Evidence) -> str | None:
    if seen.groups.differing:
        return None
    why = "every weight would be 1, which is sft" if issubclass(objective, WeightedSft) else "there is no pair"
    return f"no scenario has two different rewards in an hour: {why}"


def _foreign(seen: Evidence) -> str | None:
    calls = seen.calls
    if not calls.with_logprobs_share:
        return "no call has token ids and log-probabilities"
    if not calls.own:
        return "the calls with log-probabilities are of no version of ours"
    if not calls.on_policy_hours:
        return "every hour has a call of another model or without log-probabilities, and is refused whole"
    return None


def _own_equal(objective: type[Objective], seen: Evidence) -> str | None:
    if seen.own_distinct < 2:
        return "all rewards of our own versions' trajectories are equal"
    if issubclass(objective, Grouped) and not seen.own_differing and seen.own_lone < 2:
        return "no scenario that our own versions played has two different rewards in an hour"
    return None


def _permission(objective: type[Objective], seen: Evidence) -> str:
    if issubclass(objective, OnPolicy):
        hours = f"hours wholly of our own versions: {seen.calls.on_policy_hours}"
        if not issubclass(objective, Grouped):
            return f"{hours}; needs no groups"
        if seen.own_differing:
            return f"{hours}; groups that differ: {seen.own_differing}"
        return f'{hours}; only with lone = "pooled": no group differs, trajectories alone: {seen.own_lone}'
    if issubclass(objective, WeightedSft):
        return f"groups that differ: {seen.groups.differing}; the trajectories of the others weigh 1"
    if issubclass(objective, Dpo):
        return f"groups that differ: {seen.groups.differing}, each gives one pair"
    return f"trajectories to clone, whoever spoke: {seen.rows.usable}"


def unlocks(seen: Evidence) -> list[str]:
    """What to log, or to do, so that more of the logs can be used; nothing where nothing is missing."""
    found = [*_of_rows(seen), *_of_rewards(seen), *_of_groups(seen), *_of_calls(seen)]
    return [text for wanted, text in found if wanted]


def _of_rows(seen: Evidence) -> list[tuple[bool, str]]:
    rows, unsaid = seen.rows, seen.consent.get("unknown", 0)
    first = rows.reasons[0] if rows.reasons else None
    worst = f" (most often {first.field}: {first.reason})" if first else ""
    return [
        (
            rows.quarantined > MANY_QUARANTINED * rows.read,
            f"Mend the rows that cannot be read: {rows.quarantined} of {rows.read} are quarantined{worst}.",
        ),
        (
            unsaid > 0,
            f"Say consent with every trajectory: {unsaid} say neither yes nor no, and are used until somebody does.",
        ),
    ]


def _of_rewards(seen: Evidence) -> list[tuple[bool, str]]:
    rewards, usable = seen.rewards, seen.rows.usable
    return [
        (
            rewards.missing > 0,
            f"Log a reward with every trajectory, send feedback later, or have a judge score them: {rewards.missing} of"
            f" {usable} have none. weighted_sft, dpo and all objectives on our own policy need it.",
        ),
        (
            rewards.distinct == 1,
            "Log rewards that tell good from bad: all are equal, and nothing can be compared.",
        ),
    ]


def _of_groups(seen: Evidence) -> list[tuple[bool, str]]:
    groups = seen.groups
    lone = groups.lone_share or 0.0
    return [
        (
            groups.unnamed_scenarios > 0,
            f"Log a scenario id: {groups.unnamed_scenarios} trajectories have none and are grouped by what they were"
            " asked, word for word.",
        ),
        (
            lone > MOSTLY_LONE,
            f"Let several agents, or one agent four to eight times, do each scenario within an hour: {lone:.0%} of the"
            " trajectories are alone in their scenario, and have nothing to be compared with.",
        ),
    ]


def _of_calls(seen: Evidence) -> list[tuple[bool, str]]:
    calls = seen.calls
    return [
        (
            seen.rows.usable > 0 and calls.on_policy_trajectories < seen.rows.usable,
            "Send the agents' calls through the gateway: it stores token ids and log-probabilities of every call of our"
            f" own versions. {calls.own} of {calls.total} calls are such, and objectives on our own policy take no"
            " others.",
        ),
        (
            calls.turns_per_trajectory is not None and calls.turns_per_trajectory.most == 0,
            "Log turns (state, action, reward of each step): without them no heuristic can score, and rewards are"
            " known only at the end.",
        ),
    ]
