"""A person's word on a decision that waits for it: given once, refused once, and only while it still holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from db import alerts, promotions, releases, remedies, versions
from db.decisions import ALERT, GIVEN, REFUSED, SUPERSEDED, WAITING
from db.tables import Decision, Job, Line, Version
from rl.config import Release
from rl.errors import InvalidInput
from rl.records import utc


@dataclass(frozen=True)
class Approval:
    """What was said about a version, by whom and when, and the stage that it had at once.

    ``changed`` is false when it had been said before; ``stage`` is None then, and when it was refused.
    """

    version: str
    approval: str
    by: str
    at: str
    changed: bool
    stage: str | None = None


@dataclass(frozen=True)
class Asked:
    """A decision that waits for a person's word; ``stable`` is what the version was compared with."""

    decision_id: int
    line: str
    version: str
    stable: str | None
    policy: str
    reason: str
    evidence: dict[str, Any]
    created_at: str


def waiting(session: Session, line: str | None = None) -> list[Asked]:
    """The decisions that wait, the oldest first, of all lines or one; not those about versions rejected since."""
    stable = aliased(Version)
    query = (
        select(Decision, Line.name, Version.name, stable.name)
        .join(Line, Line.id == Decision.line_id)
        .join(Version, Version.id == Decision.version_id)
        .outerjoin(stable, stable.id == Decision.stable_id)
        .where(Decision.approval == WAITING, Version.state != "rejected")
        .order_by(Decision.id)
    )
    return [
        Asked(one.id, of, name, than, one.policy, one.reason, one.evidence, utc(one.created_at))
        for one, of, name, than in session.execute(query if line is None else query.where(Line.name == line))
    ]


def approve(session: Session, name: str, actor: str) -> Approval:
    """Carry out the newest decision that waits for a person's word on the version.

    Raises:
        InvalidInput: nothing waits, it was refused, or what it rests on is not so any more.
    """
    version, decision = _asked(session, name)
    if decision.approval == GIVEN:
        return _said(version, decision, changed=False)
    if decision.approval == REFUSED:
        remedy = f"{decision.approved_by} refused it; train another version, or decide on that again by hand"
        raise InvalidInput("version", name, remedy)
    _check(session, version, decision)
    _say(session, decision, GIVEN, actor)
    decision.released = True
    stage = promotions.put_out(session, version, decision.id, _release(session, decision), decision.reason)
    return _said(version, decision, changed=True, stage=stage)


def refuse(session: Session, name: str, reason: str, actor: str) -> Approval:
    """Say no to the newest decision that waits for a person's word on the version; the version is rejected.

    Raises:
        InvalidInput: nothing waits, or it was approved.
    """
    version, decision = _asked(session, name)
    if decision.approval == REFUSED:
        return _said(version, decision, changed=False)
    if decision.approval == GIVEN:
        remedy = f"{decision.approved_by} approved it; to take it back: {remedies.rollback(session, version.line_id)}"
        raise InvalidInput("version", name, remedy)
    _say(session, decision, REFUSED, actor)
    if version.state == "candidate":
        versions.set_state(session, [version.id], "rejected", f"refused by {actor}: {reason}")
    return _said(version, decision, changed=True)


def _asked(session: Session, name: str) -> tuple[Version, Decision]:
    """The version and the newest decision on it that needed a person's word, with its line locked."""
    version = versions.named(session, name)[0]
    releases.lock(session, version.line_id)
    session.refresh(version)
    of_it = (Decision.version_id == version.id) & (Decision.approval != SUPERSEDED)
    query = select(Decision).where(of_it).order_by(Decision.id.desc()).limit(1)
    decision = session.scalar(query.execution_options(populate_existing=True))
    if decision is None:
        waiting = select(Version.name).join(Decision, Decision.version_id == Version.id)
        names = session.scalars(waiting.where(Decision.approval == WAITING).order_by(Decision.id.desc()).limit(3))
        remedy = f"no decision about it waits for approval; those that do: {', '.join(names) or 'none'}"
        raise InvalidInput("version", name, remedy)
    return version, decision


def _check(session: Session, version: Version, decision: Decision) -> None:
    """Refuse to approve what is not so any more."""
    if version.state == "rejected":
        no = f"`rlfleet approve {version.name} --refuse --reason TEXT`"
        remedy = f"it was rejected meanwhile ({version.reason}); refuse it with {no}"
        raise InvalidInput("version", version.name, remedy)
    stable = releases.current(session, version.line_id, "stable")
    if (stable.version_id if stable else None) != decision.stable_id:
        shown = {one.id: one.name for one in session.scalars(select(Version).where(Version.line_id == version.line_id))}
        now, then = shown[stable.version_id] if stable else "none", shown.get(decision.stable_id or 0, "none")
        remedy = f"it was compared with {then}, and {now} is stable now; {_remedy(version, decision)}"
        raise InvalidInput("version", version.name, remedy)
    if (canary := releases.current(session, version.line_id, "canary")) is not None:
        remedy = f"{remedies.canary_in_the_way(session, canary)}; approve it again once that has ended"
        raise InvalidInput("version", version.name, remedy)


def _remedy(version: Version, decision: Decision) -> str:
    """What to do where another version is stable now. A run is decided on once, and nothing asks for more."""
    by_hand = f"rlfleet deploy {version.name} --reason TEXT"
    if decision.run_id is None:
        return f"a decision on that is made by itself, or: {by_hand}"
    refuse = f"rlfleet approve {version.name} --refuse --reason TEXT"
    return (
        f"its run has ended, and no other decision is made by itself; to release it: {by_hand}; to give it up: {refuse}"
    )


def _release(session: Session, decision: Decision) -> Release:
    """How the line released at the time of the decision."""
    job = session.scalars(select(Job).where(Job.id == decision.job_id)).one()
    return Release.model_validate(job.config["release"])


def _say(session: Session, decision: Decision, word: str, actor: str) -> None:
    decision.approval, decision.approved_by = word, actor
    decision.approved_at = session.scalars(select(func.clock_timestamp())).one()
    session.flush()
    alerts.settled(session, ALERT, session.get_one(Version, decision.version_id).name)


def _said(version: Version, decision: Decision, *, changed: bool, stage: str | None = None) -> Approval:
    at = utc(decision.approved_at) if decision.approved_at else ""
    return Approval(version.name, decision.approval or "", decision.approved_by or "", at, changed, stage)
