"""Windows as a pipeline, from open to trained or skipped, with reasons; and one of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from admin.access import Viewer
from admin.errors import refused_of
from admin.pages.lookup import InPath, Name, line_or_first, sought
from admin.pages.rendering import page
from db import job_pages, lineage, lines, readiness, status, window_pages, windows
from db.session import transaction

router = APIRouter(prefix="/windows")
PAGE = 50
STATES = {
    "open": "its hour is not over",
    "closed": "to be collected",
    "collected": "to be scored",
    "scored": "waits for training",
    "trained": "a version learned from it",
    "skipped": "nothing to learn from",
}
"""The stages in their order, and what each means."""
StateWord = Literal["", "open", "closed", "collected", "scored", "trained", "skipped"]


@router.get("")
def listing(
    request: Request,
    caller: Viewer,
    line: Name = "",
    state: StateWord = "",
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
) -> Response:
    """The line's windows by state, and the newest of them, 50 on a page."""
    chosen, names = line_or_first(line)
    shown, ready, counts, problem = [], None, {}, ""
    if chosen:
        with sought("line"), transaction() as session:
            row = lines.named(session, chosen)
            shown = window_pages.listing(session, row.id, PAGE + 1, before, state or None)
            try:
                ready = readiness.readiness_of(session, row)
            except ValidationError as error:
                problem = refused_of(error).detail
        counts = next(one["windows"] for one in status.lines() if one["line"] == chosen)
    filters = {"line": chosen} | ({"state": state} if state else {})
    more = len(shown) > PAGE
    return page(
        request,
        "windows.html",
        caller,
        windows=shown[:PAGE],
        readiness=ready,
        problem=problem,
        counts=counts,
        states=STATES,
        line=chosen,
        lines=names,
        state=state,
        newest=f"/windows?{urlencode(filters)}" if before else "",
        older=f"/windows?{urlencode(filters | {'before': shown[PAGE - 1]['id']})}" if more else "",
    )


@router.get("/{name:path}")
def one(request: Request, caller: Viewer, name: InPath, line: Name = "") -> Response:
    """What is in one window, what became of it, and its jobs."""
    chosen = line_or_first(line)[0]
    with sought("window"), transaction() as session:
        row = lines.named(session, chosen)
        windows.named(session, row.id, name)
        found = lineage.explain(session, name, chosen)
        jobs, job_count = job_pages.of_window(session, row.id, name)
    values: dict[str, Any] = {"found": found, "window": found.windows[0], "jobs": jobs, "job_count": job_count}
    return page(request, "window.html", caller, line=chosen, states=STATES, **values)
