"""What all files of the API share: the bounds of what callers send, paging, and the answers that are no success."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from admin.invalid import NAME, REASON, VERSION

LARGEST_ID = 2**63 - 1

LineWord = Annotated[str, StringConstraints(pattern=NAME)]
LineName = Annotated[LineWord, Query(description="the line of versions")]
LinePath = Annotated[LineWord, Path(description="the line of versions")]
LineOfVersion = Annotated[
    LineWord | None,
    Query(description="the version's line; left out: main for v1.0.3, for a whole name whichever it is of"),
]
AnyLine = Annotated[LineWord | None, Query(description="only of this line of versions; left out: of all")]
VersionWord = Annotated[str, StringConstraints(pattern=VERSION)]
"""A version's whole name, or ``v1.0.3`` of the line."""
VersionName = Annotated[VersionWord, Path(description="such as babylon-agent-v1.0.3, or v1.0.3 of the line")]
RunName = Annotated[str, Path(pattern=NAME, description="the run's name")]
RowId = Annotated[int, Path(ge=1, le=LARGEST_ID)]
Reason = Annotated[
    str,
    StringConstraints(pattern=REASON, max_length=500),
    Field(description="why, for whoever reads it later", examples=["it is worse on held-out scenarios"]),
]
Limit = Annotated[int, Query(ge=1, le=200, description="at most so many")]
Before = Annotated[
    int | None, Query(ge=1, le=LARGEST_ID, description="only those with a smaller id: `next` of the page before")
]


class Body(BaseModel):
    """What callers send: unknown fields are refused, and no number stands for a text."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Problem(BaseModel):
    """What was not done, and what to do next."""

    success: Literal[False] = False
    error: str
    remedy: str


PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "A value that cannot be used; the remedy says which can."},
    401: {"model": Problem, "description": "No token, or one that is nobody's."},
    403: {"model": Problem, "description": "The token's role may not do this."},
    404: {"model": Problem, "description": "There is no such thing."},
    409: {"model": Problem, "description": "It cannot be done as things are; the error says why."},
    413: {"model": Problem, "description": "The body is too large."},
    422: {"model": Problem, "description": "The request is not as this document says."},
    429: {"model": Problem, "description": "Too many requests; Retry-After says when to ask again."},
    503: {"model": Problem, "description": "The database or the broker did not answer; ask again."},
}
"""By status, the answers of every endpoint that needs a token."""


def following(ids: list[int], limit: int) -> int | None:
    """``next`` of a page: None where it was the last."""
    return ids[-1] if len(ids) == limit else None
