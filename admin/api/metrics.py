"""The fleet's metrics, for Prometheus."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Response

from admin.access import Viewer
from admin.api.shapes import PROBLEMS
from admin.metrics import text_of
from db.metrics import snapshot

router = APIRouter(tags=["metrics"], responses=PROBLEMS)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus' text format, or OpenMetrics"}},
)
def metrics(_: Viewer, accept: Annotated[str, Header(max_length=1000)] = "") -> Response:
    """Everything that Prometheus needs, read from the database now. 503 where that is away or too busy."""
    content, content_type = text_of(snapshot(), accept)
    return Response(content, media_type=content_type)
