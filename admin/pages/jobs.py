"""Jobs: a list with filters, one job live, and the buttons that queue it again or stop it."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from admin.access import Operator, Viewer
from admin.api import jobs as api
from admin.errors import not_found
from admin.logs import tail_of_child
from admin.pages.curves import charts, moving
from admin.pages.forms import Fields, back
from admin.pages.rendering import page
from db import clock, job_pages, job_views, pauses, status
from db.job_states import State
from db.session import transaction
from rl.protocol import JOB_KINDS

router = APIRouter(prefix="/jobs")
PAGE = 50
ENDED = ("succeeded", "failed", "dead", "cancelled")
IN_VAIN = ("failed", "dead", "cancelled")
LARGEST_ID = 2**63 - 1
JobId = Annotated[int, Path(ge=1, le=LARGEST_ID)]
StateWord = Literal["", "queued", "running", "succeeded", "failed", "dead", "cancelled"]
KindWord = Literal["", "collect", "score", "train", "evaluate", "decide"]


@router.get("")
def listing(
    request: Request,
    caller: Viewer,
    state: StateWord = "",
    kind: KindWord = "",
    line: Annotated[str, Query(max_length=64, pattern=r"^[^\x00]*$")] = "",
    before: Annotated[int | None, Query(ge=1, le=LARGEST_ID)] = None,
) -> Response:
    """The newest jobs first, 50 on a page."""
    found = job_views.listing(state or None, PAGE + 1, kind=kind or None, line=line or None, before=before)
    shown = found[:PAGE]
    with transaction() as session:
        times = job_pages.times(session, [one.job_id for one in shown])
    filters = {name: value for name, value in (("state", state), ("kind", kind), ("line", line)) if value}
    older = urlencode(filters | {"before": shown[-1].job_id}) if len(found) > PAGE else ""
    return page(
        request,
        "jobs.html",
        caller,
        jobs=shown,
        times=times,
        counts=job_views.counts(),
        states=[one.value for one in State],
        kinds=JOB_KINDS,
        lines=[one["line"] for one in status.lines()],
        chosen={"state": state, "kind": kind, "line": line},
        newest=f"/jobs?{urlencode(filters)}" if before else "",
        older=f"/jobs?{older}" if older else "",
    )


@router.get("/{job_id}")
def one(request: Request, caller: Viewer, job_id: JobId) -> Response:
    """One job; a script of ours asks for ``/live`` every two seconds while it has not ended."""
    return page(request, "job.html", caller, **_values(request, job_id))


@router.get("/{job_id}/live")
def live(request: Request, caller: Viewer, job_id: JobId) -> Response:
    """The part of the page that moves."""
    return page(request, "_job.html", caller, **_values(request, job_id))


@router.post("/{job_id}/requeue")
def requeue(_: Fields, caller: Operator, job_id: JobId) -> Response:
    """New attempts for a job that ended without success."""
    api.requeue(job_id, caller)
    return back(f"/jobs/{job_id}")


@router.post("/{job_id}/cancel")
def cancel(_: Fields, caller: Operator, job_id: JobId) -> Response:
    """Stop the job, or put a failed or dead one aside."""
    api.cancel(job_id, caller)
    return back(f"/jobs/{job_id}")


def _values(request: Request, job_id: int) -> dict[str, Any]:
    found = job_views.summary(job_id)
    with transaction() as session:
        detail = job_pages.detail(session, job_id)
    if found is None or detail is None:
        raise not_found(f"job {job_id}", "the list of jobs has those there are")
    events = job_views.events(job_id)
    is_queued = found.state == State.QUEUED
    return {
        "job": found,
        "detail": detail,
        "seconds": None if is_queued else _seconds(detail.times),
        "put_off": is_queued and detail.times.run_at > clock.lately(),
        "paused": next((one for one in pauses.paused() if one.kind == found.kind), None),
        "ended": found.state in ENDED,
        "may_requeue": found.state in IN_VAIN,
        "may_cancel": found.state in ("queued", "running", "failed", "dead") and not detail.cancel_requested,
        "moving": None
        if is_queued
        else moving(found.progress, detail.times.started_at, running=found.state == "running"),
        "charts": charts(detail.curves),
        "metrics": _metrics(found.progress),
        "events": events,
        "deliveries": job_views.deliveries(job_id),
        "carried": job_views.carried_over(job_id),
        "logs": _logs(request, detail) if found.state in ("running", "failed", "dead") else {},
    }


def _seconds(times: job_pages.Times) -> float | None:
    """How long the last attempt took, or has been taking."""
    if times.started_at is None:
        return None
    return ((times.finished_at or clock.lately()) - times.started_at).total_seconds()


def _metrics(progress: dict[str, Any] | None) -> dict[str, float]:
    said = (progress or {}).get("metrics") or {}
    return {name.replace("_", " "): value for name, value in said.items() if name != "eta_seconds"}


def _logs(request: Request, detail: job_pages.Detail) -> dict[str, str]:
    """The end of the log of each device that may have the job, of those on this machine."""
    if detail.queue != "gpu":
        return {}
    found = {device: tail_of_child(request.app.state.settings.state, device) for device in detail.devices}
    return {device: said for device, said in found.items() if said is not None}
