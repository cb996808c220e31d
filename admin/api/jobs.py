"""Jobs: look at them, open new attempts, stop them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel

from admin.access import Operator, Viewer
from admin.acting import acting
from admin.api.shapes import PROBLEMS, AnyLine, Before, Limit, RowId, following
from admin.errors import Refused, not_found
from db import job_views, jobs, lines
from db.job_states import State
from db.job_views import Delivered, Summary
from db.session import transaction
from tasks import ring

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

router = APIRouter(prefix="/api/admin/jobs", tags=["jobs"], responses=PROBLEMS)
DONE = "what it did is done: only a job that has not succeeded can be cancelled"
Kind = Literal["collect", "score", "train", "evaluate", "decide"]


class Jobs(BaseModel):
    """A page of jobs, the newest first."""

    jobs: list[Summary]
    next: int | None


class Job(BaseModel):
    """A job with its history, oldest first, its latest messages, and what its next attempt goes on from."""

    job: Summary
    events: list[dict[str, Any]]
    deliveries: list[Delivered]
    resume: dict[str, Any] | None
    adjust: dict[str, Any] | None
    devices: int
    interruptions: int


class Changed(BaseModel):
    """The job's state now. ``remark`` says why nothing was rung yet, where that is so; it is rung later."""

    success: Literal[True] = True
    job_id: int
    before: State
    state: State
    remark: str = ""


@router.get("")
def list_jobs(
    _: Viewer,
    state: State | None = None,
    kind: Kind | None = None,
    line: AnyLine = None,
    limit: Limit = 100,
    before: Before = None,
) -> Jobs:
    """The newest jobs first, of one state, kind or line where these are given."""
    if line is not None:
        with transaction() as session:
            lines.named(session, line)
    found = job_views.listing(state, limit, kind=kind, line=line, before=before)
    return Jobs(jobs=found, next=following([one.job_id for one in found], limit))


@router.get("/{job_id}")
def show_job(job_id: RowId, _: Viewer) -> Job:
    """One job: as `rlfleet jobs show ID --json`."""
    found = _known(job_id)
    return Job(
        job=found,
        events=job_views.events(job_id),
        deliveries=job_views.deliveries(job_id),
        **job_views.carried_over(job_id),
    )


@router.post("/{job_id}/requeue")
def requeue(job_id: RowId, caller: Operator) -> Changed:
    """Give a failed, dead or cancelled job new attempts. 409 in any other state."""
    with acting(caller, "requeue job", job_id) as session:
        before = _known(job_id, session)
        if not jobs.requeue(job_id, session):
            raise Refused(
                409, f"job {job_id} is {before.state}", "only a failed, dead or cancelled job can be queued again"
            )
        now = _known(job_id, session)
    return _changed(before, now, ring.ring_or_later())


@router.post("/{job_id}/cancel")
def cancel(job_id: RowId, caller: Operator) -> Changed:
    """Cancel a queued job at once; ask the worker of a running one to stop; put a failed or dead one aside.

    One that is cancelled stays as it is. 409 for one that has succeeded.
    """
    with acting(caller, "cancel job", job_id) as session:
        before = _known(job_id, session)
        if jobs.cancel(job_id, session) is State.SUCCEEDED:
            raise Refused(409, f"job {job_id} has succeeded", DONE)
        now = _known(job_id, session)
    return _changed(before, now)


def _known(job_id: int, session: Session | None = None) -> Summary:
    found = job_views.summary(job_id, session)
    if found is None:
        raise not_found(f"job {job_id}", "GET /api/admin/jobs lists them")
    return found


def _changed(before: Summary, now: Summary, remark: str = "") -> Changed:
    return Changed(job_id=before.job_id, before=State(before.state), state=State(now.state), remark=remark)
