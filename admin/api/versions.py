"""Versions: what was trained, how its checkpoints did, and giving one up."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel

from admin.access import Operator, Viewer
from admin.acting import acting
from admin.api.shapes import (
    PROBLEMS,
    AnyLine,
    Before,
    Body,
    Limit,
    LineOfVersion,
    Reason,
    VersionName,
    VersionWord,
    following,
)
from admin.errors import not_found
from db import evaluation_counts, lines, rejecting, version_summaries, versions
from db.evaluation_counts import Evaluated
from db.session import transaction
from db.version_summaries import Decided, Step, Summary

router = APIRouter(prefix="/api/admin", tags=["versions"], responses=PROBLEMS)
VersionState = Literal["candidate", "ready", "rejected"]


class Versions(BaseModel):
    """A page of versions, the newest first."""

    versions: list[Summary]
    next: int | None


class Version(BaseModel):
    """A version with the checkpoints of its training, their evaluations, and what was decided about it."""

    version: Summary
    checkpoints: list[Step]
    evaluations: list[Evaluated]
    decisions: list[Decided]


class Evaluations(BaseModel):
    """What the verdicts of a version's checkpoints add up to."""

    version: str
    evaluations: list[Evaluated]


class Why(Body):
    """Why it is given up."""

    reason: Reason


class Rejected(BaseModel):
    """The version is rejected; ``changed`` is false where it was before."""

    success: Literal[True] = True
    line: str
    version: str
    reason: str
    changed: bool


@router.get("/versions")
def list_versions(
    _: Viewer, line: AnyLine = None, state: VersionState | None = None, limit: Limit = 100, before: Before = None
) -> Versions:
    """The newest versions first, of one line or state where these are given."""
    with transaction() as session:
        if line is not None:
            lines.named(session, line)
        found = version_summaries.listing(session, limit, before, line=line, state=state)
    return Versions(versions=found, next=following([one.version_id for one in found], limit))


@router.get("/versions/{version}")
def show_version(version: VersionName, _: Viewer, line: LineOfVersion = None) -> Version:
    """One version with its checkpoints, their evaluations, and what was decided about it."""
    with transaction() as session:
        name = lines.full_name(session, version, line)
        found = version_summaries.summary(session, name)
        if found is None:
            raise _unknown(name)
        return Version(
            version=found,
            checkpoints=version_summaries.steps(session, found.version_id),
            evaluations=evaluation_counts.of_version(session, versions.named(session, name)[0]),
            decisions=version_summaries.decisions(session, found.version_id),
        )


@router.post("/versions/{version}/reject")
def reject(version: VersionName, body: Why, caller: Operator, line: LineOfVersion = None) -> Rejected:
    """Give a candidate up: nothing waits for it, and it is never released. 400 for a version that was released."""
    with acting(caller, "reject", version, line=line, reason=body.reason) as session:
        name = lines.full_name(session, version, line)
        if version_summaries.summary(session, name) is None:
            raise _unknown(name)
        found = rejecting.reject(session, name, body.reason, caller.actor)
    return Rejected(line=found.line, version=found.version, reason=found.reason, changed=found.changed)


@router.get("/evaluations", tags=["evaluations"])
def list_evaluations(
    version: Annotated[VersionWord, Query(description="such as babylon-agent-v1.0.3, or v1.0.3 of the line")],
    _: Viewer,
    line: LineOfVersion = None,
) -> Evaluations:
    """Each checkpoint of the version on each set of scenarios: counts, 80 % intervals, and both by scenario type."""
    with transaction() as session:
        name = lines.full_name(session, version, line)
        if version_summaries.summary(session, name) is None:
            raise _unknown(name)
        found = evaluation_counts.of_version(session, versions.named(session, name)[0])
    return Evaluations(version=name, evaluations=found)


def _unknown(name: str) -> Exception:
    return not_found(f"version {name}", "GET /api/admin/versions lists them")
