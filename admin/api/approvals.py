"""Decisions that wait for a person's word."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from admin.access import Operator, Viewer
from admin.acting import acting
from admin.api.shapes import PROBLEMS, AnyLine, Body, LineOfVersion, Reason, VersionName
from admin.errors import not_found
from db import approvals, lines, version_summaries
from db.approvals import Approval, Asked
from db.session import transaction

router = APIRouter(prefix="/api/admin/approvals", tags=["approvals"], responses=PROBLEMS)


class Approvals(BaseModel):
    """The decisions that wait, the oldest first."""

    approvals: list[Asked]


class Why(Body):
    """Why it is refused."""

    reason: Reason


class Said(BaseModel):
    """What was said, by whom and when; ``changed`` is false where it had been said before.

    ``stage`` is the one that the version has by it at once.
    """

    success: Literal[True] = True
    version: str
    approval: str
    by: str
    at: str
    changed: bool
    stage: str | None


@router.get("")
def list_approvals(_: Viewer, line: AnyLine = None) -> Approvals:
    """What waits for approval, with the evidence of each decision."""
    with transaction() as session:
        if line is not None:
            lines.named(session, line)
        return Approvals(approvals=approvals.waiting(session, line))


@router.post("/{version}/approve")
def approve(version: VersionName, caller: Operator, line: LineOfVersion = None) -> Said:
    """Carry the newest decision about the version out. 400 where nothing waits, or what it rests on is not so now."""
    with acting(caller, "approve", version, line=line) as session:
        name = lines.full_name(session, version, line)
        if version_summaries.summary(session, name) is None:
            raise not_found(f"version {name}", "GET /api/admin/approvals lists those that wait")
        found = approvals.approve(session, name, caller.actor)
    return _said(found)


@router.post("/{version}/refuse")
def refuse(version: VersionName, body: Why, caller: Operator, line: LineOfVersion = None) -> Said:
    """Say no: the version is rejected."""
    with acting(caller, "refuse", version, line=line, reason=body.reason) as session:
        name = lines.full_name(session, version, line)
        if version_summaries.summary(session, name) is None:
            raise not_found(f"version {name}", "GET /api/admin/approvals lists those that wait")
        found = approvals.refuse(session, name, body.reason, caller.actor)
    return _said(found)


def _said(found: Approval) -> Said:
    return Said(**vars(found))
