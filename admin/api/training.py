"""Trigger a training, and how far the automation is; the shapes that users of the older system know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from admin.access import Operator, Viewer
from admin.acting import acting
from admin.api.shapes import PROBLEMS, Body, LineName
from admin.errors import Refused
from db import automation, job_views, jobs, lines
from db.job_states import State
from db.session import transaction
from tasks import requests, ring

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

router = APIRouter(prefix="/api/admin/training", tags=["training"], responses=PROBLEMS)

NOTHING_WAITS = "GET /api/admin/windows or `rlfleet windows` says how far each window is, and why one was skipped"
GIVEN_UP = (State.FAILED, State.DEAD, State.CANCELLED)


class Trigger(Body):
    """What to train on: all scored hours that no version learned from, or the oldest of them."""

    force: bool = Field(
        False, description="train although the line is not ready, or a job on the same ended without success"
    )
    batchSize: int | None = Field(  # noqa: N815 - the name that users know
        None, ge=1, le=10**9, description="whole windows, the oldest first, until they hold so many trajectories"
    )


class Triggered(BaseModel):
    """The job that will train; the one that was asked for before, where nothing waits that it will not learn from."""

    success: Literal[True] = True
    jobId: str  # noqa: N815


class Collection(BaseModel):
    """What came in."""

    last24h: int = Field(description="trajectories of the 24 hours that ended last; rounds of runs do not count")
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
    """Ask for a version of what waits. 409 with the reason where the line is not ready, or nothing waits.

    A job on the very same that ended without success is given new attempts by `force` alone.
    """
    with acting(caller, "train", line, force=body.force, batchSize=body.batchSize) as session:
        job_id = _job(session, line, body)
    ring.ring_or_later()
    return Triggered(jobId=str(job_id))


def _job(session: Session, line: str, body: Trigger) -> int:
    asked, found = requests.train_when_ready(line, force=body.force, most=body.batchSize, session=session)
    if found is None:
        job_id = job_views.latest_training(session, lines.named(session, line).id)
        if job_id is None:
            raise Refused(409, "no scored window waits", NOTHING_WAITS)
        return job_id
    if not asked:
        raise Refused(409, found.reason, 'send {"force": true} to train on what there is')
    (job_id,) = asked
    summary = job_views.summary(job_id, session)
    state = summary.state if summary else None
    if state in GIVEN_UP:
        if not body.force:
            raise Refused(409, f"job {job_id} is {state}", f'requeue job {job_id}, or send {{"force": true}}')
        jobs.requeue(job_id, session)
    return job_id


@router.get("/trigger")
def readiness(_: Viewer, line: LineName = "main") -> Ready:
    """Whether the line is ready to train."""
    return status(_, line).readiness


@router.get("/status")
def status(_: Viewer, line: LineName = "main") -> Status:
    """How far collecting, training and releasing are on the line, and whether it is ready to train."""
    with transaction() as session:
        return Status.model_validate(automation.status(session, line))
