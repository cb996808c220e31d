"""Runs: how far they have come, and what becomes of one that waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from admin.access import Caller, Operator, Viewer
from admin.acting import acting
from admin.api.shapes import PROBLEMS, Before, RunName, following
from admin.errors import Refused, not_found
from db import lines, runs
from db.session import transaction
from rl.errors import InvalidInput
from tasks import ring

router = APIRouter(prefix="/api/admin/runs", tags=["runs"], responses=PROBLEMS)


class Rounds(BaseModel):
    """How many rounds were trained, and how many there are to be."""

    trained: int
    of: int


class RunVersion(BaseModel):
    """A version of the run: ``counts`` are [right, judged] on what the run validates on."""

    version: str
    state: str
    counts: list[int] | None
    mean: float | None
    coverage: float
    training_score: float | None


class Run(BaseModel):
    """A run as `rlfleet runs --json` has it. ``waits`` says in words what it waits for, and what a person must do."""

    run: str
    line: str
    state: Literal["running", "paused", "finished", "stopped"]
    reason: str | None
    base: str = Field(alias="from", description="the version that it started from")
    rounds: Rounds
    finishing: bool
    versions: list[RunVersion]
    best: str | None
    tie_set: list[str]
    alarms: list[dict[str, Any]]
    remarks: list[str]
    early_stop: dict[str, Any] | None
    waits: list[str]


class Runs(BaseModel):
    """A page of runs, the newest first."""

    runs: list[Run]
    next: int | None


class GoesOn(BaseModel):
    """The run's state after it, and the jobs that were rung for it; ``remark`` says why none was, where that is so."""

    success: Literal[True] = True
    run: str
    state: str
    rang: list[int]
    remark: str = ""


@router.get("")
def list_runs(
    _: Viewer, limit: Annotated[int, Query(ge=1, le=20, description="at most so many")] = 5, before: Before = None
) -> Runs:
    """The newest runs first, each ranked anew, so that a page is short."""
    with transaction() as session:
        found = runs.newest(session, limit, before)
        page = [Run.model_validate(runs.told(session, one)) for one in found]
    return Runs(runs=page, next=following([one.id for one in found], limit))


@router.get("/{run}")
def show_run(run: RunName, _: Viewer) -> Run:
    """One run: its rounds, versions, alarms, and what it waits for."""
    with transaction() as session:
        try:
            row = lines.run_named(session, run)
        except InvalidInput as error:
            raise not_found(f"run {run}", error.remedy) from None
        if row.base_version_id is None:
            raise Refused(409, f"run {run} began without a version", "there is nothing to compare; start another run")
        return Run.model_validate(runs.told(session, row))


@router.post("/{run}/resume")
def resume(run: RunName, caller: Operator) -> GoesOn:
    """Have a paused run play further rounds. The patience of its early stop counts anew."""
    return _change(run, caller, "resume run", runs.resume)


@router.post("/{run}/finish")
def finish(run: RunName, caller: Operator) -> GoesOn:
    """Have a run open no further round, and decide on what was trained as if all rounds had been played."""
    return _change(run, caller, "finish run", runs.finish)


def _change(run: str, caller: Caller, action: str, change: Callable[..., str]) -> GoesOn:
    with acting(caller, action, run) as session:
        try:
            lines.run_named(session, run)
        except InvalidInput as error:
            raise not_found(f"run {run}", error.remedy) from None
        line = change(session, run)
        state = lines.run_named(session, run).state
    rang, remark = ring.advance_or_later(line)
    return GoesOn(run=run, state=state, rang=rang, remark=remark)
