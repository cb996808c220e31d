"""Whether what a config asks for can ever be decided. Asked where a config comes in: stored ones stay readable."""

from __future__ import annotations

import math

from rl.config import LineConfig, Release, RunConfig, TaskSet
from rl.errors import InvalidInput
from rl.selection import MIN_COVERAGE


def check_line(config: LineConfig) -> None:
    """Refuse scenarios for the decision that are too few for ``release.min_scenarios``.

    Raises:
        InvalidInput: a verdict that is missing, of those that may be, would reject every version.
    """
    if config.validation is not None:
        _check_enough("validation.count", config.validation.count, config.release)
    if config.held_out is not None:
        _check_enough("held_out.scenarios", config.held_out.scenarios, config.release)


def check_run(config: RunConfig) -> None:
    """Refuse too few held-out scenarios, and such as the choice is made on.

    Raises:
        InvalidInput: as ``check_line``, or the two sets of scenarios have some in common.
    """
    _check_enough("held_out.count", config.held_out.count, config.release)
    if overlap(config.validation, config.held_out):
        shown = config.held_out.model_dump(mode="json")
        remedy = "validation has some of these scenarios; take another split, or a first_seed behind validation's last"
        raise InvalidInput("held_out", shown, remedy)


def overlap(one: TaskSet, other: TaskSet) -> bool:
    """Whether the two have scenarios in common."""
    if (one.environment, one.split) != (other.environment, other.split):
        return False
    return max(one.first_seed, other.first_seed) < min(one.first_seed + one.count, other.first_seed + other.count)


def _check_enough(field: str, count: int, release: Release) -> None:
    """Results are ranked with 95 % of their verdicts, so that many must be enough to decide on."""
    if math.ceil(MIN_COVERAGE * count) >= release.min_scenarios:
        return
    least = math.floor((release.min_scenarios - 1) / MIN_COVERAGE) + 1
    remedy = (
        f"with the {1 - MIN_COVERAGE:.0%} of verdicts that may be missing, release.min_scenarios = "
        f"{release.min_scenarios} needs {least} or more; or lower release.min_scenarios"
    )
    raise InvalidInput(field, count, remedy)
