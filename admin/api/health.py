"""Whether the admin server and what the fleet needs are well: for probes without a token, in detail with one."""

from __future__ import annotations

import logging
from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel
from starlette.requests import Request

from admin import probes
from admin.access import Viewer
from admin.api.shapes import PROBLEMS, Problem
from admin.probes import Broker, Disk, Process
from db import migrate, tokens
from db.session import transaction
from db.workers import Present
from rl.errors import DatabaseRefused, DatabaseUnavailable

log = logging.getLogger(__name__)

router = APIRouter(tags=["health"])
PATIENCE_SECONDS = 3.0
OF_HEALTH: dict[int | str, dict[str, Any]] = {code: PROBLEMS[code] for code in (401, 403, 413, 422, 429)}


class Health(BaseModel):
    """``unavailable`` comes with the status 503."""

    status: Literal["ok", "unavailable"]
    reason: str = ""


class Details(BaseModel):
    """What answers, and the reasons why the whole is not ``ok``. ``degraded`` comes with the status 503.

    ``engines`` and ``gateway`` were asked for their health; ``gateway`` is null where its address is not set, ``disk``
    where this machine cannot look at it.
    """

    status: Literal["ok", "degraded"]
    reasons: list[str]
    database: Literal["ok"] = "ok"
    broker: Broker
    workers: list[Present]
    engines: list[Process]
    gateway: Process | None
    disk: Disk | None


@router.get("/live")
async def live() -> Health:
    """200 for as long as the process serves at all."""
    return Health(status="ok")


@router.get("/ready", responses={503: {"model": Health}})
def ready(response: Response) -> Health:
    """200 when the database answers, has the tables that this version knows and lets tokens be read, else 503."""
    try:
        found = migrate.revision(PATIENCE_SECONDS)
        with transaction(PATIENCE_SECONDS) as session:
            can_let_in = not found.is_newest or tokens.can_let_in(session)
    except DatabaseUnavailable:
        return _unavailable(response, "the database does not answer")
    except DatabaseRefused as error:
        log.error("%s", error)
        return _unavailable(response, "the database refuses the admin server: its log says what its login may not do")
    if found.current is None:
        return _unavailable(response, "the database has no tables of ours: `rlfleet migrate` makes them")
    if not found.is_newest:
        remedy = "`rlfleet migrate` brings an older one up to date"
        words = f"the database is at revision {found.current}, this version needs {found.newest}: {remedy}"
        return _unavailable(response, words)
    if not can_let_in:
        words = "the login of DATABASE_URL may let nobody in: make it a member of rlfleet_admin (docs/perimeter.md)"
        return _unavailable(response, words)
    return Health(status="ok")


def _unavailable(response: Response, reason: str) -> Health:
    response.status_code = 503
    return Health(status="unavailable", reason=reason)


@router.get(
    "/health", responses=OF_HEALTH | {503: {"model": Details | Problem, "description": "Something is not well."}}
)
def health(request: Request, response: Response, _: Viewer) -> Details:
    """Database, broker, workers, engines, gateway and disk, each asked now; 503 where one is missing."""
    settings = request.app.state.settings
    found = probes.look(settings.gateway_url, settings.artifacts)
    if found.reasons:
        response.status_code = 503
    return Details(status="degraded" if found.reasons else "ok", **vars(found))
