"""Whether an environment has as many scenarios as a config asks for, and which a run is given that asks for more."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import environments
from environments.contract import Environment
from rl.config import LineConfig, RunConfig, TaskSet
from rl.errors import InvalidInput, MissingDependency
from rl.mix import around, members


def sized(environment: str, split: str) -> int | None:
    """How many scenarios the environment's split has; None where they are endless.

    Raises:
        InvalidInput: no environment has that name.
        MissingDependency: they cannot be counted without what is not installed here.
    """
    return environments.load(environment).scenarios(split)


def train_seeds(environment: Environment) -> Callable[[int], int]:
    """From the number of a scenario in a run to its seed in ``train``.

    Where the environment, or a member of a mix, has only so many, its seeds begin anew at 0 after the last.

    Raises:
        InvalidInput: there are no training scenarios.
        MissingDependency: as ``sized``.
    """
    mixed = members(environment.name)
    own = [environment] if len(mixed) == 1 else [environments.load(member.environment) for member in mixed]
    sizes = {one.name: one.scenarios("train") for one in own}
    for name, size in sizes.items():
        if size == 0:
            remedy = f"{name} has no scenarios in train; practise in another environment"
            raise InvalidInput("rollout.environment", environment.name, remedy)
    return partial(around, mixed, sizes)


def check_fits(field: str, tasks: TaskSet) -> None:
    """Refuse a set of scenarios that reaches beyond its environment's split.

    Where the environment cannot be counted on this machine, nothing is refused: workers may have what it needs.

    Raises:
        InvalidInput: no environment has that name, or the split has too few scenarios.
    """
    try:
        there = sized(tasks.environment, tasks.split)
    except MissingDependency:
        return
    if there is None or tasks.first_seed + tasks.count <= there:
        return
    has = f"{tasks.environment} has {there} scenarios in {tasks.split}"
    left = there - tasks.first_seed
    if left < 1:
        raise InvalidInput(f"{field}.first_seed", tasks.first_seed, f"{has}; begin below {there}")
    since = f" from first_seed = {tasks.first_seed} on" if tasks.first_seed else ""
    raise InvalidInput(f"{field}.count", tasks.count, f"{has}; ask for at most {left}{since}")


def check_line(config: LineConfig) -> None:
    """Refuse validation scenarios that are not there.

    Raises:
        InvalidInput: as ``check_fits``.
    """
    if config.validation is not None:
        check_fits("validation", config.validation)


def check_run(config: RunConfig) -> None:
    """Refuse validation or held-out scenarios that are not there, and an environment to practise in that is not.

    The rounds of a run may ask for more training scenarios than there are, where there are any: they go through them
    again.

    Raises:
        InvalidInput: as ``check_fits``.
    """
    with suppress(MissingDependency):
        train_seeds(environments.load(config.rollout.environment))
    check_fits("validation", config.validation)
    check_fits("held_out", config.held_out)
