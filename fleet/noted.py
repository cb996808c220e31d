"""Who says so in the shell, and the row of the audit about it."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rl.errors import PermanentError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


@contextmanager
def noted(action: str, subject: object, **detail: object) -> Iterator[Session]:
    """The block does ``action`` to ``subject``, in one transaction with the row of the audit that says so.

    What is refused leaves a row too, and is raised.
    """
    from db import audit
    from db.session import transaction

    who, given = f"{actor()}@shell", {name: value for name, value in detail.items() if value is not None}
    try:
        with transaction() as session:
            yield session
            audit.note(session, who, action, str(subject), "done", detail=given)
    except PermanentError as error:
        with transaction() as session:
            audit.note(session, who, action, str(subject), "refused", detail=given | {"error": str(error)})
        raise


def actor() -> str:
    """Who says so: ``USER``, or the user that this process runs as."""
    if name := os.environ.get("USER", "").strip():
        return name
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a passwd entry
        return f"uid {os.getuid()}"
