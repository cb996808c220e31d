"""What the verdicts of a version's checkpoints add up to, with intervals, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import checkpoints, results
from db.tables import Version
from rl.config import TaskSet
from rl.evaluating import coverage
from rl.held_out import LoggedSet
from rl.intervals import beta_interval
from rl.line_state import Result

MASS = 0.8


@dataclass(frozen=True)
class Count:
    """``k`` of ``n`` verdicts were right; ``low`` to ``high`` holds 80 % of what the rate may be."""

    k: int
    n: int
    low: float
    high: float


@dataclass(frozen=True)
class Evaluated:
    """A checkpoint on one set of scenarios, by one judge. ``coverage`` is the share of these with a verdict, 0 to 1.

    ``is_own``: it is the checkpoint that the version stands for. ``is_newest`` is false of what another judge, or the
    same with another prompt, said before.
    """

    step: int
    is_own: bool
    task_set: dict[str, Any]
    judge: str
    prompt_hash: str
    is_newest: bool
    overall: Count
    types: dict[str, Count]
    coverage: float
    turns: float | None
    broken: int
    at_limit: int


SETS = text("select distinct task_set_hash, task_set from rlfleet.evaluations where checkpoint_sha256 = any(:hashes)")


def of_version(session: Session, version: Version) -> list[Evaluated]:
    """By step, then by set; of each the newest first."""
    rows = checkpoints.of_version(session, version)
    hashes = sorted({one.sha256 for one in rows})
    found = results.results(session, hashes)
    sets = {str(row[0]): dict(row[1]) for row in session.execute(SETS, {"hashes": hashes})}
    return [
        _evaluated(one.step, one.id == version.checkpoint_id, sets[name], each, each is newest)
        for one in rows
        for name, newest in sorted(found.get(one.sha256, {}).items())
        for each in _all(newest)
    ]


def count(k: int, n: int) -> Count:
    """The count with its interval, rounded to six places."""
    low, high = beta_interval(k, n, MASS)
    return Count(k, n, round(low, 6), round(high, 6))


def _all(newest: Result) -> Iterator[Result]:
    yield newest
    yield from newest.earlier


def _evaluated(step: int, is_own: bool, task_set: Mapping[str, Any], found: Result, is_newest: bool) -> Evaluated:
    parsed = TaskSet.model_validate(task_set) if "environment" in task_set else LoggedSet.model_validate(task_set)
    return Evaluated(
        step=step,
        is_own=is_own,
        task_set=dict(task_set),
        judge=found.judge,
        prompt_hash=found.prompt_hash,
        is_newest=is_newest,
        overall=count(found.k, found.n),
        types={name: count(int(k), int(n)) for name, (k, n) in found.types.items()},
        coverage=round(coverage(parsed, found), 6),
        turns=found.turns,
        broken=found.broken,
        at_limit=found.at_limit,
    )
