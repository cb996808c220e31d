"""Whether what a config asks for can ever be decided. Asked where a config comes in: stored ones stay readable."""

from __future__ import annotations

import math

from rl.config import LineConfig, Release, RunConfig, TaskSet
from rl.errors import InvalidInput
from rl.mix import Dealt, deal, members
from rl.selection import MIN_COVERAGE

SAME_TEMPERATURE = 1e-6
"""Temperatures that differ by no more are the same, as ``gpu.data`` sees them."""


def check_line(config: LineConfig) -> None:
    """Refuse scenarios for the decision that are too few for ``release.min_scenarios``.

    Raises:
        InvalidInput: a verdict that is missing, of those that may be, would reject every version.
    """
    if config.validation is not None:
        _check_enough("validation.count", config.validation.count, config.release)
    if config.held_out is not None:
        together = config.held_out.judge is not None
        _check_enough("held_out.scenarios", config.held_out.scenarios, config.release, together=together)


def check_run(config: RunConfig) -> None:
    """Refuse too few held-out scenarios, such as the choice is made on, and rounds that cannot be trained on.

    Raises:
        InvalidInput: as ``check_line``; the two sets of scenarios have some in common; or rounds are played at another
            temperature than they are trained at.
    """
    if abs(config.rollout.temperature - config.train.temperature) > SAME_TEMPERATURE:
        remedy = f"train.temperature is {config.train.temperature:g}, and what was sampled otherwise is not trained on"
        raise InvalidInput("rollout.temperature", config.rollout.temperature, f"{remedy}; set both to the same")
    _check_enough("held_out.count", config.held_out.count, config.release)
    if overlap(config.validation, config.held_out):
        shown = config.held_out.model_dump(mode="json")
        remedy = "validation has some of these scenarios; take another split, or a first_seed behind validation's last"
        raise InvalidInput("held_out", shown, remedy)


def overlap(one: TaskSet, other: TaskSet) -> bool:
    """Whether the two have scenarios in common; those of a mix are its members'.

    Raises:
        InvalidInput: an environment's name is that of no mix, and no plain one.
    """
    if one.split != other.split:
        return False
    if one.environment == other.environment:
        return max(one.first_seed, other.first_seed) < min(one.first_seed + one.count, other.first_seed + other.count)
    return not _dealt(one).isdisjoint(_dealt(other))


def _dealt(tasks: TaskSet) -> set[Dealt]:
    mixed = members(tasks.environment)
    return {deal(mixed, seed) for seed in range(tasks.first_seed, tasks.first_seed + tasks.count)}


def pairs_left(count: int) -> int:
    """Of ``count`` scenarios the fewest that both versions have a verdict on: each lacks 5 %, on other scenarios."""
    return max(0, 2 * _of_one(count) - count)


def _check_enough(field: str, count: int, release: Release, *, together: bool = False) -> None:
    """What may be missing must leave enough to decide on; ``together`` where a verdict is on both versions at once."""
    least_of = _of_one if together else pairs_left
    if least_of(count) >= release.min_scenarios:
        return
    least = count
    # One scenario more may let each lack one more, so that fewer are left: the next number must do too.
    while min(least_of(least), least_of(least + 1)) < release.min_scenarios:
        least += 1
    what = "verdicts" if together else "verdicts on each version"
    remedy = (
        f"with the {1 - MIN_COVERAGE:.0%} of {what} that may be missing,"
        f" release.min_scenarios = {release.min_scenarios} needs {least} or more; or lower release.min_scenarios"
    )
    raise InvalidInput(field, count, remedy)


def _of_one(count: int) -> int:
    """The fewest scenarios with a verdict."""
    return math.ceil(MIN_COVERAGE * count - 1e-9)
