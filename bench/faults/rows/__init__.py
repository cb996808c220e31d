"""The rows of the fault matrix: one function breaks the fleet, and may have a counterpart that breaks raw Celery.

A row is a function of a ``Bench`` that starts what it needs, breaks it, waits until all jobs have ended, and says
what came of them. What it expects beyond the invariants it says with ``expect``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.faults.bench import Bench


@dataclass(frozen=True)
class Ours:
    """What the fleet made of the fault: jobs accepted, effects committed, seconds from the fault to the next claim.

    ``recovery_seconds`` is None where no holder died. ``notes`` are numbers and words worth a look.
    """

    jobs: int
    effects: int
    recovery_seconds: float | None = None
    notes: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Raw:
    """What raw Celery, late acknowledgement as recommended, made of it: tasks sent, and effects written."""

    jobs: int
    effects: int
    recovery_seconds: float | None = None
    notes: Mapping[str, object] = field(default_factory=dict)


OursOf = Callable[["Bench"], Ours]
RawOf = Callable[["Bench"], Raw]


@dataclass(frozen=True)
class Row:
    """One row: its number and words, the seconds it may take, and whether the bound on recovery applies (I7).

    ``quick`` rows make up the short run. ``reason`` says why there is no counterpart. ``missing`` says why this machine
    cannot do it, where it cannot.
    """

    number: int
    fault: str
    limit_seconds: float
    recovery: bool
    quick: bool
    reason: str
    ours: OursOf
    missing: Callable[[], str | None] = lambda: None


_rows: dict[int, Row] = {}
_raws: dict[int, RawOf] = {}


def row(
    number: int,
    fault: str,
    *,
    limit_seconds: float,
    recovery: bool = False,
    quick: bool = False,
    reason: str = "raw Celery has nothing that compares",
    missing: Callable[[], str | None] = lambda: None,
) -> Callable[[OursOf], OursOf]:
    """Register the decorated function as row ``number``."""

    def register(function: OursOf) -> OursOf:
        if number in _rows:
            raise ValueError(f"row {number} is {_rows[number].fault!r} already; choose another number")
        _rows[number] = Row(number, fault, limit_seconds, recovery, quick, reason, function, missing)
        return function

    return register


def raw(number: int) -> Callable[[RawOf], RawOf]:
    """Register the decorated function as what raw Celery does under the fault of row ``number``."""

    def register(function: RawOf) -> RawOf:
        _raws[number] = function
        return function

    return register


def registered() -> list[tuple[Row, RawOf | None]]:
    """Every row of this folder's files with its counterpart, by number."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return [(_rows[number], _raws.get(number)) for number in sorted(_rows)]
