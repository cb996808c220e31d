"""The fleet by its rows, each line's state at a glance, and whether a line is ready to train."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from admin.access import Viewer
from admin.api.shapes import PROBLEMS, LinePath
from db import fleet_state, lines, readiness, status
from db.pauses import Paused
from db.rejections import Rejected
from db.session import transaction
from db.workers import Present
from rl.readiness import Readiness

router = APIRouter(prefix="/api/admin", tags=["lines"], responses=PROBLEMS)


class Line(BaseModel):
    """A line: its windows by state, what is stable and what a canary, at which share of its agents in per cent."""

    line: str
    windows: dict[str, int]
    versions: int
    stable: str | None
    share: int
    canary: str | None
    canary_share: int
    killed: bool
    pinned: str | None


class Lines(BaseModel):
    """All lines, by name."""

    lines: list[Line]


class Candidate(BaseModel):
    """A candidate, and what it waits for, in words."""

    line: str
    version: str | None
    waits: list[str]


class Alert(BaseModel):
    """An alert that no receiver has taken yet."""

    alert_id: int
    name: str
    subject: str
    detail: dict[str, Any]
    created_at: str
    tries: int
    error: str | None


class Fleet(BaseModel):
    """The state by the rows. Not ``ok``: a job failed or is dead, or a kind of job is paused."""

    schema_: int = Field(1, alias="schema")
    ok: bool
    jobs: dict[str, int]
    lines: list[Line]
    candidates: list[Candidate]
    paused: list[Paused]
    workers: list[Present]
    rejections: list[Rejected]
    alerts: list[Alert]


@router.get("/status")
def show_fleet(_: Viewer) -> Fleet:
    """Jobs by state, lines, candidates, pauses, workers, rejected messages and alerts, as the rows have them."""
    return Fleet.model_validate(fleet_state.read())


@router.get("/lines")
def list_lines(_: Viewer) -> Lines:
    """Every line at a glance."""
    return Lines(lines=[Line.model_validate(one) for one in status.lines()])


@router.get("/lines/{line}/readiness")
def show_readiness(line: LinePath, _: Viewer) -> Readiness:
    """Whether what waits on the line is enough to train on; if not, what is missing."""
    with transaction() as session:
        return readiness.readiness_of(session, lines.named(session, line))
