"""Names out of an address: what cannot be found is answered with 404, and with what there is instead."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import Path, Query

from admin.errors import Refused
from db import status
from rl.errors import InvalidInput

MOST_CHARACTERS = 500
WITHOUT_NUL = r"^[^\x00]*$"
"""The database takes no NUL in a text."""

Name = Annotated[str, Query(max_length=MOST_CHARACTERS, pattern=WITHOUT_NUL)]
"""A name in the query; empty: none was given."""
InPath = Annotated[str, Path(max_length=MOST_CHARACTERS, pattern=WITHOUT_NUL)]
"""A name in the path."""
PageNumber = Annotated[int, Query(alias="page", ge=1, le=100_000)]


@contextmanager
def sought(what: str) -> Iterator[None]:
    """The block looks something up.

    Raises:
        Refused: 404, there is none.
    """
    try:
        yield
    except InvalidInput as error:
        raise Refused(404, f"there is no such {what}", error.remedy) from error


def line_or_first(given: str) -> tuple[str, list[str]]:
    """The line that is looked at, and all there are: the one asked for, else ``main``, else the first; empty: none."""
    names = [one["line"] for one in status.lines()]
    if given:
        return given, names
    return ("main" if "main" in names else names[0] if names else ""), names
