"""A person gives a version up that is not decided on: it is left out of what its run or its line chooses from."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from db import decisions, releases, remedies, versions
from db.tables import Line, Version
from rl.errors import InvalidInput


@dataclass(frozen=True)
class Rejection:
    """What holds: the version is rejected, for ``reason``. ``changed`` is false when it was before."""

    line: str
    version: str
    reason: str
    changed: bool


def reject(session: Session, name: str, reason: str, actor: str) -> Rejection:
    """Reject the candidate called ``name``, with a decision of ``actor``'s. Nobody waits for its verdicts any more.

    Its jobs that wait still run; what they find is stored and chooses nothing.

    Raises:
        InvalidInput: no such version, or it was released.
    """
    version = versions.named(session, name)[0]
    releases.lock(session, version.line_id)
    session.refresh(version)
    line = session.get_one(Line, version.line_id).name
    if version.state == "rejected":
        return Rejection(line, name, version.reason or "", changed=False)
    if version.state != "candidate":
        raise InvalidInput("version", name, _remedy(session, version))
    stable = releases.current(session, version.line_id, "stable")
    over = stable.version_id if stable else None
    decisions.by_person(session, version.line_id, version.id, reason, actor, stable_id=over, released=False)
    said = f"rejected by {actor}: {reason}"
    releases.reject(session, version.line_id, version.id, said)
    return Rejection(line, name, said, changed=True)


def _remedy(session: Session, version: Version) -> str:
    live = [releases.current(session, version.line_id, stage) for stage in ("stable", "canary")]
    if version.id in {one.version_id for one in live if one is not None}:
        return f"it is released; to take it back: {remedies.rollback(session, version.line_id)}"
    return f"it is {version.state}, and only a candidate is rejected by hand: nothing waits for this one"
