"""Whether the admin server and what it needs are well: for probes, without a token and without details."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from db.session import transaction
from rl.errors import DatabaseUnavailable

router = APIRouter(tags=["health"])
PATIENCE_SECONDS = 3.0


class Health(BaseModel):
    """``unavailable`` comes with the status 503."""

    status: Literal["ok", "unavailable"]
    reason: str = ""


@router.get("/live")
def live() -> Health:
    """200 for as long as the process serves at all."""
    return Health(status="ok")


@router.get("/ready", responses={503: {"model": Health}})
def ready(response: Response) -> Health:
    """200 when the database answers and has our tables, else 503."""
    try:
        with transaction(PATIENCE_SECONDS) as session:
            session.connection().exec_driver_sql("select 1 from rlfleet.lines limit 1")
    except DatabaseUnavailable:
        response.status_code = 503
        return Health(status="unavailable", reason="the database does not answer, or has no tables of ours")
    return Health(status="ok")
