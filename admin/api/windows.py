"""Windows: how far each has come, and what is in it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel

from admin.access import Viewer
from admin.api.shapes import PROBLEMS, Before, Limit, LineName, following
from admin.errors import not_found
from admin.invalid import WINDOW
from db import lineage, lines, readiness, window_pages
from db.lineage import Lineage
from db.session import transaction
from rl.errors import UnknownWindow
from rl.readiness import Readiness

router = APIRouter(prefix="/api/admin/windows", tags=["windows"], responses=PROBLEMS)
WindowState = Literal["open", "closed", "collected", "scored", "trained", "skipped"]


class Window(BaseModel):
    """A window. ``groups`` counts its scenarios, ``versions`` are those that learned from it; moments are ISO 8601."""

    id: int
    name: str
    state: WindowState
    reason: str | None
    removed_at: str | None
    again: int
    trajectories: int
    groups: int
    scored: int
    quarantined: int
    versions: list[str]


class Windows(BaseModel):
    """A page of a line's windows, the newest first, and what the line's next training waits for."""

    line: str
    windows: list[Window]
    next: int | None
    readiness: Readiness


@router.get("")
def list_windows(
    _: Viewer, line: LineName = "main", state: WindowState | None = None, limit: Limit = 100, before: Before = None
) -> Windows:
    """The line's windows, with the reason of each that waits, failed or was skipped."""
    with transaction() as session:
        row = lines.named(session, line)
        found: list[dict[str, Any]] = window_pages.listing(session, row.id, limit, before, state)
        ready = readiness.readiness_of(session, row)
    page = [Window.model_validate(one) for one in found]
    return Windows(line=line, windows=page, next=following([one.id for one in page], limit), readiness=ready)


@router.get("/{window:path}")
def show_window(
    window: Annotated[
        str,
        Path(
            pattern=WINDOW,
            description="2025-01-15T10:00 (UTC), or run/demo/0003",
        ),
    ],
    _: Viewer,
    line: LineName = "main",
    trajectories: Annotated[int, Query(ge=0, le=1000, description="so many are named")] = 20,
) -> Lineage:
    """What the window is made of and what became of it: as `rlfleet explain WINDOW --json`."""
    with transaction() as session:
        try:
            return lineage.explain(session, window, line, trajectories)
        except UnknownWindow as error:
            raise not_found(f"window {window} on line {line}", error.remedy) from None
