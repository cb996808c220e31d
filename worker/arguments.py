"""Checks a message's arguments against a task's signature before the task runs.

What breaks without it: whoever can reach the broker can send anything, and ``"7"`` or ``True`` for a job's number
would travel as far as a statement in Postgres before it fails, with an error that names neither task nor argument.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, get_type_hints

from celery.utils.log import get_task_logger

from rl.errors import BadMessage

log = get_task_logger(__name__)

LARGEST = 2**63
"""Postgres' integers end below."""


def accepted(task: str, run: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments by name, as ``run`` takes them.

    A keyword argument that ``run`` does not know comes from a newer sender, and is left out with a line in the log.

    Raises:
        BadMessage: an argument is missing, given twice, one too many, or of a wrong type.
    """
    parameters = _parameters(run)
    names = list(parameters)
    takes = f"{task} takes ({', '.join(names)})"
    if len(args) > len(names):
        raise BadMessage(f"{task}: argument {len(names) + 1}", args[len(names)], f"leave it out; {takes}")
    given = dict(zip(names, args, strict=False))
    for name, value in kwargs.items():
        if name in given:
            raise BadMessage(f"{task}: {name}", value, f"it is given twice, by position and by name; {takes}")
        if name in parameters:
            given[name] = value
        else:
            log.warning("%s: the argument %.100r is not known here and is left out; its sender is newer", task, name)
    for name, (kind, required) in parameters.items():
        if name not in given and required:
            raise BadMessage(f"{task}: {name}", None, f"it is missing; {takes}")
        if name in given and (remedy := _remedy(kind, given[name])):
            raise BadMessage(f"{task}: {name}", given[name], f"{remedy}; {takes}")
    return given


@cache
def _parameters(run: Callable[..., Any]) -> dict[str, tuple[Any, bool]]:
    """Each parameter's type and whether it must be given."""
    hints = get_type_hints(run)
    found = inspect.signature(run).parameters.values()
    return {one.name: (hints.get(one.name), one.default is inspect.Parameter.empty) for one in found}


def _remedy(kind: Any, value: object) -> str | None:
    """What is wrong with the value for a parameter of that type, if something is; other types are not checked."""
    if kind is int:
        if type(value) is not int:  # True is an int for isinstance, and no number of a job
            return "send an integer"
        return None if -LARGEST <= value < LARGEST else "send an integer of at most 64 bits"
    if kind is str:
        if not isinstance(value, str):
            return "send a string"
        return "send it without the character NUL" if "\0" in value else None
    return None
