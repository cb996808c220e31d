"""What a person says about a line's traffic: a kill switch, and a pin. The gateway heeds both within two seconds."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db import lines
from db.tables import Control, Version
from rl.errors import InvalidInput

RELEASES = "the releases"
"""Who takes a pin away because the version was rolled back."""


def kill(session: Session, line_id: int, on: bool, reason: str, actor: str) -> bool:
    """Let no version of ours answer the line's agents, or let them again. Whether that changed anything."""
    return _set(session, line_id, {"killed": on}, reason, actor)


def pin(session: Session, line_id: int, version_id: int | None, reason: str, actor: str) -> bool:
    """Let one version answer all of the line's agents; None: go by the releases. Whether that changed anything.

    Holds the line's lock, so that a version which is being rejected is not pinned just before.

    Raises:
        InvalidInput: the version is not of this line or not ``ready``.
    """
    lines.lock(session, line_id)
    if version_id is not None:
        row = session.execute(
            select(Version.line_id, Version.state, Version.name).where(Version.id == version_id)
        ).one()
        if row.line_id != line_id:
            raise InvalidInput("version", row.name, "it is of another line; name a version of this one")
        if row.state != "ready":
            raise InvalidInput("version", row.name, f"it is {row.state}; only a ready version can be pinned")
    return _set(session, line_id, {"pinned_id": version_id}, reason, actor)


def unpin(session: Session, line_id: int, version_id: int, reason: str) -> None:
    """Take the pin away if it is on that version."""
    of_it = update(Control).where(Control.line_id == line_id, Control.pinned_id == version_id)
    session.execute(of_it.values(pinned_id=None, reason=reason, actor=RELEASES, changed_at=func.now()))


def _set(session: Session, line_id: int, values: dict[str, Any], reason: str, actor: str) -> bool:
    """Store it unless it is so already."""
    found = session.scalar(select(Control).where(Control.line_id == line_id).with_for_update())
    before = {name: getattr(found, name) if found else None for name in values}
    if all((before[name] or None) == (value or None) for name, value in values.items()):
        return False
    row = {**values, "reason": reason, "actor": actor, "changed_at": func.now()}
    stated = insert(Control).values(line_id=line_id, **row)
    session.execute(stated.on_conflict_do_update(index_elements=["line_id"], set_=row))
    return True
