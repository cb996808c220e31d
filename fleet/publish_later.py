"""What ``rlfleet publish`` leaves to the fleet: a row says what is to be on the Hub, and nobody waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleet.noted import actor
from fleet.publish import Wanted, checked
from rl.errors import InvalidInput

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def ask(wanted: Wanted, asked: dict[str, Any]) -> str:
    """Have a worker of queue ``maint`` publish it as soon as the Hub answers. Returns the version's whole name.

    Raises:
        InvalidInput: it may not be published, is not to be had here, or a name is none.
        StoreUnavailable, StoreRefused: see ``fleet.publish_rows.read``.
    """
    from db import publications
    from db.session import transaction

    stored, _, _ = checked(wanted)
    options = {"private": wanted.private, "merged": wanted.merged, "any": wanted.anything, "base": wanted.base}
    with transaction() as session:
        publications.ask(session, stored.made.version.id, wanted.repository, options)
        _note(session, stored.version, asked)
    return stored.version


def cancel(wanted: Wanted, asked: dict[str, Any]) -> str:
    """Have it published no more, where it waits for that. Returns the version's whole name.

    Raises:
        InvalidInput: it does not wait.
    """
    from db import lines, publications
    from db.session import transaction

    with transaction() as session:
        name = lines.full_name(session, wanted.version, wanted.line or "main")
        if not publications.cancel(session, name, wanted.repository):
            remedy = f"it does not wait to be published in {wanted.repository}; `rlfleet status` shows what waits"
            raise InvalidInput("version", name, remedy)
        _note(session, name, asked)
    return name


def _note(session: Session, name: str, asked: dict[str, Any]) -> None:
    from db import audit

    audit.note(session, f"{actor()}@shell", "publish", name, "done", detail=asked)
