"""Trigger a training, and how far the automation is; the shapes that users of the older system know."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from admin.access import Operator, Viewer
from admin.acting import acting
from admin.api.shapes import PROBLEMS, Body, LineName
from admin.errors import Refused
from db import automation
from db.session import transaction
from tasks import requests, ring

router = APIRouter(prefix="/api/admin/training", tags=["training"], responses=PROBLEMS)


class Trigger(Body):
    """What to train on: all scored hours that no version learned from, or the oldest of them."""

    force: bool = Field(False, description="train although the line is not ready")
    batchSize: int | None = Field(  # noqa: N815 - the name that users know
        None, ge=1, le=10**9, description="whole windows, the oldest first, until they hold so many trajectories"
    )


class Triggered(BaseModel):
    """The job that will train; the one that was asked for before, where nothing has changed since."""

    success: Literal[True] = True
    jobId: str  # noqa: N815


class Collection(BaseModel):
    """What came in."""

    last24h: int = Field(description="trajectories of the last 24 hours")
    ratePerHour: float  # noqa: N815


class Training(BaseModel):
    """The job that trains, or waits to; and when one last ended well, in ISO 8601."""

    currentJob: str | None  # noqa: N815
    lastCompleted: str | None  # noqa: N815


class Models(BaseModel):
    """The newest version, and the stable one."""

    latest: str | None
    deployed: str | None


class Automation(BaseModel):
    """How far each stage is."""

    dataCollection: Collection  # noqa: N815
    training: Training
    models: Models


class ReadyStats(BaseModel):
    """Scored trajectories that no version learned from, and the scenario groups among them that are large enough."""

    totalTrajectories: int  # noqa: N815
    scenarioGroups: int  # noqa: N815


class Ready(BaseModel):
    """Whether to train now, and the reason in words."""

    ready: bool
    reason: str
    stats: ReadyStats


class Status(BaseModel):
    """``degraded`` while a job of the line is dead, a kind of job is paused, or no worker is there."""

    status: Literal["healthy", "degraded"]
    automation: Automation
    readiness: Ready


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
def readiness(_: Viewer, line: LineName = "main") -> Ready:
    """Whether the line is ready to train."""
    return status(_, line).readiness


@router.get("/status")
def status(_: Viewer, line: LineName = "main") -> Status:
    """How far collecting, training and releasing are on the line, and whether it is ready to train."""
    with transaction() as session:
        return Status.model_validate(automation.status(session, line))
