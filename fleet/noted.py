"""Who says so in the shell, and the row of the audit about it."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from rl.errors import PermanentError, RlfleetError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.audit import Outcome

Note = Callable[["Session"], None]
"""Writes the row that says that something is done, in the transaction that does it."""


@contextmanager
def noted(action: str, subject: object, **detail: object) -> Iterator[Session]:
    """The block does ``action`` to ``subject``, in one transaction with the row of the audit that says so.

    What is refused or breaks leaves a row too, and is raised.
    """
    from db.session import transaction

    with noting(action, subject, **detail) as note, transaction() as session:
        yield session
        note(session)


@contextmanager
def noting(action: str, subject: object, **detail: object) -> Iterator[Note]:
    """The same for a block that opens its transaction itself: it calls what it gets in the one that does ``action``."""
    given = {name: value for name, value in detail.items() if value is not None}
    try:
        yield lambda session: _note(session, action, subject, "done", given)
    except PermanentError as error:
        _note_alone(action, subject, "refused", given | {"error": str(error)})
        raise
    except Exception as error:
        with suppress(RlfleetError):  # the database may be what is away
            _note_alone(action, subject, "failed", given | {"error": str(error)})
        raise


@contextmanager
def noted_where_it_breaks(action: str, subject: object) -> Iterator[None]:
    """For a block of many transactions, before which ``action`` was noted: an error in it leaves one more row."""
    try:
        yield
    except Exception as error:
        with suppress(RlfleetError):  # the database may be what is away
            _note_alone(action, subject, "failed", {"error": str(error)})
        raise


def actor() -> str:
    """Who says so: ``USER``, or the user that this process runs as."""
    if name := os.environ.get("USER", "").strip():
        return name
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a passwd entry
        return f"uid {os.getuid()}"


def _note_alone(action: str, subject: object, outcome: Outcome, detail: Mapping[str, object]) -> None:
    from db.session import transaction

    with transaction() as session:
        _note(session, action, subject, outcome, detail)


def _note(session: Session, action: str, subject: object, outcome: Outcome, detail: Mapping[str, object]) -> None:
    from db import audit

    audit.note(session, f"{actor()}@shell", action, str(subject), outcome, detail=detail)
