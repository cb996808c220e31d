"""Whether a line's logs are worth a training, and if not, what is missing, in words.

The rule, in this order; the first that does not hold is the reason:
1. enough trajectories are scored and not yet trained on. Unscored ones do not count: they become scored;
2. enough scenario groups have several of them, where the objective compares within groups;
3. enough of the rows that came lately could be used. Where none came, nothing is held against the line;
4. the last training is long enough ago. A line that was never trained has waited long enough;
5. of what a training would use (``rl.usable``) there are as many trajectories and groups.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from rl.training import Config

READY = "Ready to train!"
SHOWN = 3
"""Reasons that are named where many are left out."""
UNGROUPED = frozenset({"sft", "weighted_sft", "ppo"})
"""Objectives that learn from a trajectory that is alone in its scenario: by itself, or from its head of values."""


class Thresholds(Config):
    """What a training waits for. Only what was set is dumped: the environment has a say in the others.

    min_trajectories: 100. Of the published 1000, 100 and 1 the middle one: a small fleet makes it in a day.
    min_groups: 10, as published.
    min_group_size: 2, the smallest group with a variance. The published 10 starves logs of few agents.
    min_quality: 0.95, as published.
    min_hours_between: 20. The published 24, counted from the end of the last training, skips every second day of a
        daily schedule.
    """

    min_trajectories: int = Field(100, ge=1)
    min_groups: int = Field(10, ge=0)
    min_group_size: int = Field(2, ge=1)
    min_quality: float = Field(0.95, ge=0, le=1)
    min_hours_between: float = Field(20.0, ge=0)

    @model_serializer(mode="wrap")
    def _what_was_set(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in dump(self).items() if name in self.model_fields_set}

    def __eq__(self, other: object) -> bool:
        """Equal values, set by the same hand: one that is set to its built-in value is not for the environment."""
        return (
            isinstance(other, Thresholds)
            and self.model_fields_set == other.model_fields_set
            and bool(super().__eq__(other))
        )

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    def over(self, others: Thresholds) -> Thresholds:
        """These where they were set, and ``others`` elsewhere."""
        return others.model_copy(update={name: getattr(self, name) for name in self.model_fields_set})


class Stats(Config):
    """What waits in the hour windows of a line that are not trained yet.

    ``total`` = ``scored`` + ``unscored`` + ``trained``; ``trained`` counts those that a version learned from before
    their window was opened again. ``held_out`` are those kept for evaluation, which no other number counts. ``groups``
    counts those of at least ``min_group_size`` scored ones. ``quality`` is the usable share, 0 to 1, of the rows of the
    last 7 days, None where there are none; ``hours_since`` is None before the first training.
    """

    total: int = Field(0, ge=0)
    scored: int = Field(0, ge=0)
    unscored: int = Field(0, ge=0)
    trained: int = Field(0, ge=0)
    groups: int = Field(0, ge=0)
    quality: float | None = Field(None, ge=0, le=1)
    hours_since: float | None = None
    held_out: int = Field(0, ge=0, exclude_if=lambda number: number == 0)


class Readiness(Config):
    """The answer, its reason in words, and the numbers it rests on."""

    ready: bool
    reason: str
    stats: Stats


def readiness(stats: Stats, thresholds: Thresholds, objective: str | None = None) -> Readiness:
    """Whether to train now. ``objective`` is what the line trains with; all but those in ``UNGROUPED`` need groups."""
    missing = _missing(stats, thresholds, grouped=objective not in UNGROUPED)
    return Readiness(ready=missing is None, reason=missing or READY, stats=stats)


def shortage(groups: Mapping[str, int], reasons: Mapping[str, int], least: Thresholds, objective: str) -> str | None:
    """What is missing of what a training would use, None if nothing is.

    ``groups`` has the size of each group that would be used, ``reasons`` how many are left out for each reason.
    """
    kept, large = sum(groups.values()), sum(size >= least.min_group_size for size in groups.values())
    if kept < least.min_trajectories:
        return f"Need more usable trajectories ({kept}/{least.min_trajectories}): {_words(reasons)}"
    if objective not in UNGROUPED and large < least.min_groups:
        return f"Need more usable scenario groups ({large}/{least.min_groups}): {_words(reasons)}"
    return None


def _words(reasons: Mapping[str, int]) -> str:
    """The most frequent reasons; each group has its own words, so that there may be many."""
    ordered = sorted(reasons.items(), key=lambda item: -item[1])
    rest = sum(count for _, count in ordered[SHOWN:])
    told = [f"{count} {reason}" for reason, count in ordered[:SHOWN]] + ([f"{rest} more left out"] if rest else [])
    return ", ".join(told) or "the other windows are yet to be scored"


def _missing(stats: Stats, least: Thresholds, *, grouped: bool) -> str | None:
    if stats.scored < least.min_trajectories:
        return f"Need {least.min_trajectories - stats.scored} more trajectories"
    if grouped and stats.groups < least.min_groups:
        return f"Need more scenario groups ({stats.groups}/{least.min_groups} minimum)"
    if stats.quality is not None and stats.quality < least.min_quality:
        return f"Data quality too low ({_percent(stats.quality)}% < {least.min_quality * 100:g}%)"
    if stats.hours_since is not None and stats.hours_since < least.min_hours_between:
        left = math.ceil((least.min_hours_between - stats.hours_since) * 10) / 10
        return f"Need {left:g} more hours since the last training"
    return None


def _percent(share: float) -> str:
    """Rounded down to a tenth, so that what is below a threshold never reads as equal to it."""
    return f"{math.floor(share * 1000) / 10:g}"
