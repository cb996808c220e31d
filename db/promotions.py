"""A version that was decided on comes to traffic: at once, or as a canary beside the stable version."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from db import releases, versions
from db.tables import Release as Row
from db.tables import Version
from rl.config import Release
from rl.release_plan import Plan


def plan_of(release: Release, stable: int) -> Plan:
    """How a canary of a line with that config goes on beside a stable version with a share of ``stable`` per cent.

    In the end it has the line's share, and no more than the stable version has, which a person may have set. A share of
    0, which leaves nobody to compare, counts as 1.
    """
    return Plan(stages=release.stages, rules=release.rules, share=max(1, min(release.share, stable)))


def put_out(session: Session, version: Version, decision_id: int, release: Release, reason: str) -> str:
    """Release the version as the config says; it becomes ``ready``. Returns its stage: ``stable`` or ``canary``.

    At once where the line has no stable version, where the strategy says so, and where the share is 0, the line's or
    what a person left to the stable version.

    Raises:
        InvalidInput: another canary of the line is live.
    """
    releases.lock(session, version.line_id)
    versions.set_state(session, [version.id], "ready", reason)
    stable = releases.current(session, version.line_id, "stable")
    share = release.share
    if stable is not None and release.strategy != "immediate":
        share = min(share, stable.share)
    if stable is None or release.strategy == "immediate" or share == 0:
        releases.replace_stable(session, version.line_id, version.id, decision_id, share, reason)
        return "stable"
    releases.start_canary(session, version.line_id, version.id, decision_id, plan_of(release, stable.share), reason)
    return "canary"


def canary_of(session: Session, line_id: int) -> tuple[str, int] | None:
    """The name of the line's live canary and its share, or None."""
    live = (Row.line_id == line_id) & (Row.stage == "canary") & Row.ended_at.is_(None)
    found = session.execute(select(Version.name, Row.share).join(Row, Row.version_id == Version.id).where(live))
    row = found.one_or_none()
    return (row[0], row[1]) if row else None
