"""Trigger a training, and how far the automation is; the shapes that users of the older system know."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from admin.access import Operator, Viewer
from admin.acting import acting
from admin.errors import Refused
from db import automation
from db.session import transaction
from tasks import requests, ring

router = APIRouter(prefix="/api/admin/training", tags=["training"])
LineName = Annotated[str, Query(description="the line of versions", max_length=100)]


class Trigger(BaseModel):
    """What to train on: all scored hours that no version learned from, or the oldest of them."""

    model_config = ConfigDict(extra="forbid")

    force: bool = Field(False, description="train although the line is not ready")
    batchSize: int | None = Field(  # noqa: N815 - the name that users know
        None, ge=1, le=10**9, description="whole windows, the oldest first, until they hold so many trajectories"
    )


class Triggered(BaseModel):
    """The job that will train; the one that was asked for before, where nothing has changed since."""

    success: Literal[True] = True
    jobId: str  # noqa: N815


@router.post("/trigger")
def trigger(body: Trigger, caller: Operator, line: LineName = "main") -> Triggered:
    """Ask for a version of what waits. 409 with the reason where the line is not ready, or nothing waits."""
    with acting(caller, "train", line, force=body.force, batchSize=body.batchSize):
        asked, found = requests.train_when_ready(line, force=body.force, most=body.batchSize)
        if not asked:
            reason = "no scored window waits" if found is None else found.reason
            raise Refused(409, reason, "" if found is None else 'send {"force": true} to train on what there is')
        ring.ring_or_later()
    return Triggered(jobId=str(asked[0]))


@router.get("/trigger")
@router.get("/status")
def status(_: Viewer, line: LineName = "main") -> dict[str, Any]:
    """How far collecting, training and releasing are on the line, and whether it is ready to train."""
    with transaction() as session:
        return automation.status(session, line)
