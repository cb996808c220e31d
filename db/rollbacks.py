"""A person goes back on a line, and is told what holds then."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from db import lines, releases


@dataclass(frozen=True)
class RolledBack:
    """What is stable for which share, and the versions that were left; ``changed`` is false where none was.

    ``pinned`` is a version that answers all agents all the same, because the line is pinned to it.
    """

    line: str
    stable: str
    share: int
    left: list[str]
    changed: bool
    pinned: str | None


def roll_back(session: Session, line: str, to: str | None, reason: str, actor: str) -> RolledBack:
    """End the canary, or go back to the version that was stable before; see ``db.releases.roll_back``.

    Raises:
        InvalidInput: no such line, or as there.
    """
    line_id = lines.named(session, line).id
    releases.lock(session, line_id)
    before = [one.version for one in releases.live(session, line)]
    releases.roll_back(session, line_id, to, reason, actor)
    (stable,) = releases.live(session, line)
    pinned = releases.by_line(session)[line].pinned
    left = [name for name in before if name != stable.version]
    still = pinned.name if pinned is not None and pinned.state == "ready" else None
    return RolledBack(line, stable.version, stable.share, left, bool(left), still)
