"""Is it learning, is it healthy, what is live?"""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from admin.access import Viewer
from admin.pages.rendering import page
from db import status

router = APIRouter()


@router.get("/")
def overview(request: Request, caller: Viewer) -> Response:
    """All lines at a glance."""
    return page(request, "overview.html", caller, lines=status.lines())
