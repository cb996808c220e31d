"""Alarms and alerts: what a person should hear of, whether or not a receiver has taken it."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel

from admin.access import Viewer
from admin.api.shapes import PROBLEMS, Before, Limit, following
from db import alert_history
from db.alert_history import Told
from db.session import transaction

router = APIRouter(prefix="/api/admin/alarms", tags=["alarms"], responses=PROBLEMS)
WAITING = {"waiting": True, "past": False, "all": None}


class Alarms(BaseModel):
    """A page, the newest first."""

    alarms: list[Told]
    next: int | None


@router.get("")
def list_alarms(
    _: Viewer,
    state: Annotated[
        Literal["waiting", "past", "all"], Query(description="waiting: no receiver has taken it yet")
    ] = "all",
    limit: Limit = 100,
    before: Before = None,
) -> Alarms:
    """What was raised: by the fleet's own watch, by runs, and by canaries."""
    with transaction() as session:
        found = alert_history.listing(session, limit, before, waiting=WAITING[state])
    return Alarms(alarms=found, next=following([one.alert_id for one in found], limit))
