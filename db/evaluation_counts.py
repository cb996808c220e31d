"""What the verdicts of a version's checkpoints add up to, with intervals, for people."""

from __future__ import annotations

from collections.abc import Sequence
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
    """``k`` of ``n`` verdicts were right; ``low`` to ``high`` holds 80 % of what the rate may be.

    Where answers are compared with another version's, a tie is half of one: ``k`` may end in .5.
    """

    k: int | float
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


@dataclass(frozen=True)
class Known:
    """What is known of a checkpoint on one set by one judge. ``is_newest``: no other judge or prompt came later."""

    task_set: dict[str, Any]
    task_set_hash: str
    result: Result
    is_newest: bool


SETS = text("""
    select distinct on (task_set_hash) task_set_hash, task_set from rlfleet.evaluations
     where checkpoint_sha256 = any(:hashes) order by task_set_hash, id desc
""")


def of_checkpoints(session: Session, hashes: Sequence[str]) -> dict[str, list[Known]]:
    """By the checkpoints' hash, by set; of each set the newest first."""
    asked = sorted(set(hashes))
    found = results.results(session, asked)  # before the sets: a set that is stored in between is then among them
    sets = {str(row[0]): dict(row[1]) for row in session.execute(SETS, {"hashes": asked})}
    return {
        sha: [
            Known(sets[name], name, each, each is newest)
            for name, newest in sorted(by_set.items())
            for each in (newest, *newest.earlier)
        ]
        for sha, by_set in found.items()
    }


def of_version(session: Session, version: Version) -> list[Evaluated]:
    """By step, then by set; of each the newest first."""
    rows = checkpoints.of_version(session, version)
    known = of_checkpoints(session, [one.sha256 for one in rows])
    return [
        _evaluated(one.step, one.id == version.checkpoint_id, each)
        for one in rows
        for each in known.get(one.sha256, ())
    ]


def count(k: float, n: int) -> Count:
    """The count with its interval, rounded to six places."""
    low, high = beta_interval(k, n, MASS)
    return Count(k, n, round(low, 6), round(high, 6))


def _evaluated(step: int, is_own: bool, known: Known) -> Evaluated:
    task_set, found = known.task_set, known.result
    parsed = TaskSet.model_validate(task_set) if "environment" in task_set else LoggedSet.model_validate(task_set)
    return Evaluated(
        step=step,
        is_own=is_own,
        task_set=task_set,
        judge=found.judge,
        prompt_hash=found.prompt_hash,
        is_newest=known.is_newest,
        overall=count(found.k, found.n),
        types={name: count(k, n) for name, (k, n) in found.types.items()},
        coverage=round(coverage(parsed, found), 6),
        turns=found.turns,
        broken=found.broken,
        at_limit=found.at_limit,
    )
