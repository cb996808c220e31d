"""Which trajectories of a training's windows are used, and why the others are not.

The rule, in this order; the first that holds is the reason why one is left out:
1. its owner refused consent after it was stored;
2. its scenario is held out for evaluation;
3. it has no score, or one below the objective's ``min_score``;
4. a version of the line learned from it already;
5. the objective compares within groups, and all of its group have the same score: there is nothing to prefer;
6. it is alone in its group, and the line's rule for lone trajectories is ``skip``, or the objective compares.

Groups are trajectories of one window and scenario whose scores can be compared. Under ``batch_baseline`` all lone ones
of a window whose scores can be compared are one group. Rounds of a run pass 2 and 4 to 6: they were played for this
training on scenarios of an environment, and what their objective does with such groups is its own setting.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from rl.held_out import HeldOut, is_held_out
from rl.readiness import UNGROUPED
from rl.scoring_config import Lone
from rl.windows import ROUND

REFUSED = "its owner refused consent"
HELD_OUT = "held out for evaluation"
NOT_SCORED, BELOW, ALONE = "not scored", "below min_score", "alone in its group"
LONE = "lone"
"""What the group of a window's lone trajectories is called in place of a scenario."""


class Candidate(Protocol):
    """A trajectory with its newest score. ``comparison`` begins with ``scenario_id`` and says whom it compares with."""

    @property
    def trajectory_id(self) -> str: ...
    @property
    def window(self) -> str: ...
    @property
    def scenario_id(self) -> str: ...
    @property
    def comparison(self) -> str: ...
    @property
    def score(self) -> float | None: ...
    @property
    def is_refused(self) -> bool: ...


Row = TypeVar("Row", bound=Candidate)


@dataclass(frozen=True)
class Rule:
    """What an objective, a line's scoring and its evaluation say.

    ``pools`` is an objective that groups a batch's lone ones itself.
    """

    objective: str
    min_score: float | None = None
    lone: Lone = "score_alone"
    pools: bool = False
    held_out: HeldOut | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any], lone: Lone, held_out: HeldOut | None = None) -> Rule:
        """The rule of a training job's config, and of the line's scoring and evaluation."""
        pools = config.get("lone") == "pooled"
        return cls(str(config["objective"]), config.get("min_score"), lone, pools, held_out)

    @property
    def compares(self) -> bool:
        """Whether the objective learns from how trajectories of a group differ, and from nothing else."""
        return self.objective not in UNGROUPED

    def holds_out(self, row: Candidate) -> bool:
        """Whether the row's scenario is kept for evaluation."""
        held = self.held_out
        return held is not None and not is_round(row.window) and is_held_out(row.scenario_id, held.share, held.salt)


@dataclass(frozen=True)
class Kept(Generic[Row]):
    """A trajectory that is used, and the group it is used in."""

    row: Row
    group: str


@dataclass(frozen=True)
class LeftOut(Generic[Row]):
    """A trajectory that is not used, and why."""

    row: Row
    reason: str


@dataclass(frozen=True)
class Usable(Generic[Row]):
    """Every trajectory is in one of the two, in the order they were given."""

    kept: list[Kept[Row]]
    left_out: list[LeftOut[Row]]

    @property
    def reasons(self) -> dict[str, int]:
        """How many were left out for each reason, the most frequent first; equal ones by their words."""
        counts = Counter(one.reason for one in self.left_out)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def usable(rows: Sequence[Row], rule: Rule, learned: Mapping[str, str]) -> Usable[Row]:
    """Which of ``rows``, whose ids differ, a training uses. ``learned`` has the version that learned from one."""
    why = {row.trajectory_id: _unfit(row, rule, learned) for row in rows}
    group_of = {}
    for name, members in _groups([row for row in rows if why[row.trajectory_id] is None], rule).items():
        reason = _unfit_together(members, rule)
        for one in members:
            group_of[one.trajectory_id], why[one.trajectory_id] = name, reason
    left_out = [(row, why[row.trajectory_id]) for row in rows]
    return Usable(
        [Kept(row, group_of[row.trajectory_id]) for row, reason in left_out if reason is None],
        [LeftOut(row, reason) for row, reason in left_out if reason is not None],
    )


def is_round(window: str) -> bool:
    """Whether the window is a round of a run."""
    return ROUND.fullmatch(window) is not None


def _unfit(row: Candidate, rule: Rule, learned: Mapping[str, str]) -> str | None:
    if row.is_refused:
        return REFUSED
    if rule.holds_out(row):
        return HELD_OUT
    if row.score is None:
        return NOT_SCORED
    if rule.min_score is not None and row.score < rule.min_score:
        return BELOW
    if row.trajectory_id in learned and not is_round(row.window):
        return f"already learned from by {learned[row.trajectory_id]}"
    return None


def _groups(rows: Iterable[Row], rule: Rule) -> dict[str, list[Row]]:
    """The groups by their names, ``<window> <comparison>``; those of lone trajectories that are pooled too."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[f"{row.window} {row.comparison}"].append(row)
    if rule.lone != "batch_baseline":
        return groups
    lone = [name for name, members in groups.items() if len(members) == 1 and not is_round(members[0].window)]
    alone = [member for name in lone for member in groups.pop(name)]
    pooled: dict[str, list[Row]] = defaultdict(list)
    for row in alone:
        pooled[_pool(row, groups)].append(row)
    return groups | pooled


def _pool(row: Candidate, taken: Mapping[str, object]) -> str:
    """The name of the group of its window's lone ones; a scenario may be called so too."""
    name, apart = LONE, row.comparison.removeprefix(row.scenario_id)
    while f"{row.window} {name}{apart}" in taken:
        name += "'"
    return f"{row.window} {name}{apart}"


def _unfit_together(members: Sequence[Candidate], rule: Rule) -> str | None:
    if is_round(members[0].window):
        return None
    if len(members) == 1:
        return ALONE if rule.lone == "skip" or (rule.compares and not rule.pools) else None
    score = members[0].score
    if rule.compares and all(one.score == score for one in members):
        return f"its group has no variance: all {len(members)} scores are {score:g}"
    return None
