"""Which version a request means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from db import lines, version_summaries
from rl.errors import InvalidInput

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def version_meant(session: Session, version: str, line: str | None) -> str:
    """The whole name of ``version``; a short one is of ``line``, or of main. There may be no such version.

    Raises:
        InvalidInput: there is no such line, or the version is of another one than was said.
    """
    name = lines.full_name(session, version, line or lines.DEFAULT_LINE)
    if line is not None:
        lines.named(session, line)
        found = version_summaries.summary(session, name)
        if found is not None and found.line != line:
            raise InvalidInput("line", line, f"{name} is a version of line {found.line}: say that, or leave it out")
    return name
