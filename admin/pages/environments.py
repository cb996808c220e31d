"""Which environments lines, runs and evaluations use, with late verdicts, and where episodes failed."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from admin.access import Viewer
from admin.pages.rendering import page
from db import environment_views
from db.session import transaction
from rl.report import Count

router = APIRouter()


@router.get("/environments")
def listing(request: Request, caller: Viewer) -> Response:
    """Every environment that something here names, with the verdicts and failures of the last days."""
    with transaction() as session:
        found = environment_views.used(session)
    for one in found:
        for row in one.verdicts:
            known = row["right"] + row["wrong"]
            row["count"] = Count.of(row["right"], known) if known else None
    return page(request, "environments.html", caller, environments=found, days=environment_views.DAYS)
