"""Releases: the only path to traffic. How a version comes to a share of a line's agents, and how it loses it.

Whoever changes a line's releases holds the row lock on the line until the transaction ends, so that callers wait for
each other and see what the one before did.
"""

from __future__ import annotations

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from db import controls, dispatch, remedies, versions
from db.canaries import Canary, canaries, looked
from db.lines import lock
from db.released import LineReleases, LiveRelease, NamedVersion, by_line, live, version_named
from db.tables import Decision, Line, Release, Run, Version
from rl.errors import InvalidInput, NothingStable
from rl.release_plan import Plan

__all__ = [
    "Canary",
    "LineReleases",
    "LiveRelease",
    "NamedVersion",
    "advance",
    "by_line",
    "canaries",
    "current",
    "finish",
    "live",
    "lock",
    "looked",
    "replace_stable",
    "roll_back",
    "roll_back_canary",
    "start_canary",
    "version_named",
]


ROLLBACK = "rollback"
"""The policy of a decision by which a person went back."""


def current(session: Session, line_id: int, stage: str) -> Release | None:
    """The line's live release at ``stage``, as it is in the database."""
    found = select(Release).where(Release.line_id == line_id, Release.stage == stage, Release.ended_at.is_(None))
    return session.scalar(found.execution_options(populate_existing=True))


def replace_stable(session: Session, line_id: int, version_id: int, decision_id: int, share: int, reason: str) -> int:
    """Make the version the line's stable one for ``share`` per cent of its agents. Returns the release's id.

    Does nothing when that release is live already. A canary of the same version ends; another one's stays.

    Raises:
        InvalidInput: the version is not of this line or not ``ready``, or the share is not within 0..100.
    """
    lock(session, line_id)
    _check(session, line_id, version_id, share)
    stable, canary = current(session, line_id, "stable"), current(session, line_id, "canary")
    if canary is not None and canary.version_id == version_id:
        _end_canary(session, canary, reason)
    if stable is not None:
        if (stable.version_id, stable.share) == (version_id, share):
            return stable.id
        _end(session, stable.id, reason)
    return _add(
        session,
        Release(
            line_id=line_id, version_id=version_id, decision_id=decision_id, stage="stable", share=share, reason=reason
        ),
    )


def start_canary(session: Session, line_id: int, version_id: int, decision_id: int, plan: Plan, reason: str) -> int:
    """Give the version the first share of the plan, beside the stable version. Returns the release's id.

    Does nothing when that version is the line's canary already, with this plan.

    Raises:
        InvalidInput: another canary is live; there is no stable version, or it is this one; or the version is not of
            this line or not ``ready``.
    """
    lock(session, line_id)
    share = plan.of_agents(plan.stages.stages[0].share)
    _check(session, line_id, version_id, share)
    stable, canary = current(session, line_id, "stable"), current(session, line_id, "canary")
    dumped = plan.model_dump(mode="json")
    if canary is not None and (canary.version_id, canary.plan) == (version_id, dumped):
        return canary.id
    _check_room(session, version_id, stable, canary)
    return _add(
        session,
        Release(
            line_id=line_id,
            version_id=version_id,
            decision_id=decision_id,
            stage="canary",
            share=share,
            reason=reason,
            plan=dumped,
        ),
    )


def advance(session: Session, release_id: int, share: int, reason: str) -> int:
    """Give a canary the plan's next stage, which has ``share``. Returns the id of the new row: one place further.

    Raises:
        InvalidInput: the release is not a live canary.
    """
    row = _live_canary(session, release_id)
    _end(session, row.id, reason)
    return _add(
        session,
        Release(
            line_id=row.line_id,
            version_id=row.version_id,
            decision_id=row.decision_id,
            stage="canary",
            share=Plan.model_validate(row.plan).of_agents(share),
            reason=reason,
            place=row.place + 1,
            plan=row.plan,
        ),
    )


def finish(session: Session, release_id: int, reason: str) -> int:
    """Make a canary the stable version, at its plan's share. Returns the id of the stable release.

    Raises:
        InvalidInput: the release is not a live canary.
    """
    row = _live_canary(session, release_id)
    share = Plan.model_validate(row.plan).share
    return replace_stable(session, row.line_id, row.version_id, row.decision_id, share, reason)


def roll_back_canary(session: Session, release_id: int, reason: str) -> None:
    """End a canary for good: its version is rejected, its pin is taken away, and the stable version stays.

    Raises:
        InvalidInput: the release is not a live canary.
    """
    row = _live_canary(session, release_id)
    _end_canary(session, row, reason)
    reject(session, row.line_id, row.version_id, reason)


def reject(session: Session, line_id: int, version_id: int, reason: str) -> None:
    """Mark a version so that nothing releases, pins or trains on from it again. Runs that began at it stop."""
    versions.set_state(session, [version_id], "rejected", reason)
    controls.unpin(session, line_id, version_id, reason)
    from_it = (Run.base_version_id == version_id) & Run.state.in_(("running", "paused"))
    stopped = {"state": "stopped", "reason": f"its base: {reason}", "finished_at": func.now()}
    session.execute(update(Run).where(from_it).values(stopped))


def roll_back(session: Session, line_id: int, to: str | None, reason: str, actor: str) -> int:
    """Go back, because a person says so. Returns the id of the stable release that holds then.

    Without ``to`` a live canary ends; where there is none, the version that was stable before becomes stable again.
    With ``to``, that version becomes stable and a live canary ends; with the name of the stable version only the
    canary ends, if there is one. The version that is left is rejected.

    Raises:
        InvalidInput: nothing is released; no version was stable before, or ``to`` was not or is not ``ready``; or the
            last change was a rollback, and ``to`` does not say how much further.
    """
    lock(session, line_id)
    stable, canary = current(session, line_id, "stable"), current(session, line_id, "canary")
    if stable is None:
        name = session.get_one(Line, line_id).name
        raise InvalidInput("line", name, "it has no released version; there is nothing to go back from")
    back = stable if to is None and canary is not None else _earlier(session, stable, to)
    if back.version_id == stable.version_id:
        if canary is not None:
            _person(session, canary, stable.version_id, False, reason, actor)
            roll_back_canary(session, canary.id, f"rolled back by {actor}: {reason}")
        return stable.id
    if canary is not None:
        _end_canary(session, canary, f"{actor} rolled the stable version back: {reason}")
        if canary.version_id != back.version_id:
            controls.unpin(session, line_id, canary.version_id, f"rolled back by {actor}: {reason}")
    decision_id = _person(session, back, stable.version_id, True, reason, actor)
    made = replace_stable(session, line_id, back.version_id, decision_id, back.share, reason)
    reject(session, line_id, stable.version_id, f"rolled back by {actor}: {reason}")
    return made


def _earlier(session: Session, stable: Release, to: str | None) -> Release:
    """The row by which the version to go back to was last stable; ``stable`` itself where ``to`` names its version."""
    rows = session.execute(
        select(Release, Version)
        .join(Version, Version.id == Release.version_id)
        .where(Release.line_id == stable.line_id, Release.stage == "stable")
        .order_by(Release.id.desc())
    ).all()
    states = {version.name: version.state for _, version in rows}
    others = list(dict.fromkeys(one.name for _, one in rows if one.id != stable.version_id and one.state == "ready"))
    known = ", ".join(others) or "none"
    if to is not None:
        if states.get(to) == "ready":
            return next(release for release, version in rows if version.name == to)
        why = f"it is {states[to]}" if to in states else "it was never stable on this line"
        raise InvalidInput("to", to, f"{why}; those that can be gone back to: {known}")
    if not others:
        base = f"{remedies.kill(session, stable.line_id)} takes the line's versions away from all agents"
        raise InvalidInput("to", to, f"no other version was stable before that still may be; {base}")
    if done := went_back(session, stable):
        raise InvalidInput("to", to, f"{done}; to go further, name one of: {known}")
    return next(release for release, version in rows if version.name == others[0])


def went_back(session: Session, stable: Release) -> str:
    """What was rolled back last, in words; empty where the line's last change was not a rollback."""
    if session.scalar(select(Decision.policy).where(Decision.id == stable.decision_id)) == ROLLBACK:
        return "the stable version is one that was gone back to"
    since = (Release.line_id == stable.line_id) & (Release.stage == "canary") & (Release.ended_at > stable.created_at)
    rejected = select(Version.name).join(Release, Release.version_id == Version.id).where(Version.state == "rejected")
    name = session.scalar(rejected.where(since).order_by(Release.id.desc()).limit(1))
    return f"{name}, the last canary, was rolled back already" if name else ""


def _person(session: Session, row: Release, stable_id: int, released: bool, reason: str, actor: str) -> int:
    decision = Decision(
        line_id=row.line_id,
        version_id=row.version_id,
        stable_id=stable_id,
        policy=ROLLBACK,
        released=released,
        reason=reason,
        evidence={},
        actor=actor,
    )
    session.add(decision)
    session.flush()
    return decision.id


def _live_canary(session: Session, release_id: int) -> Release:
    """The row of a canary, with its line locked."""
    line_id = session.scalar(select(Release.line_id).where(Release.id == release_id, Release.stage == "canary"))
    if line_id is not None:
        lock(session, line_id)
        row = current(session, line_id, "canary")
        if row is not None and row.id == release_id:
            return row
    raise InvalidInput("release", release_id, "it is no live canary; look again with `rlfleet releases`")


def _add(session: Session, release: Release) -> int:
    release.created_at = func.clock_timestamp()
    session.add(release)
    session.flush()
    return release.id


def _end(session: Session, release_id: int, reason: str) -> None:
    ended = {"ended_at": text("clock_timestamp()"), "ended_reason": reason}
    session.execute(update(Release).where(Release.id == release_id).values(ended))


def _end_canary(session: Session, canary: Release, reason: str) -> None:
    """Decisions of the line that waited for the end of the canary are made at once."""
    _end(session, canary.id, reason)
    dispatch.wake(session, canary.line_id, "decide")


def _check(session: Session, line_id: int, version_id: int, share: int) -> None:
    if not 0 <= share <= 100:
        raise InvalidInput("share", share, "a share is a percentage of agents, 0 to 100")
    row = session.execute(
        select(Version.name, Version.line_id, Version.state).where(Version.id == version_id)
    ).one_or_none()
    if row is None or row.line_id != line_id:
        raise InvalidInput("version", row.name if row else version_id, "it is no version of this line")
    if row.state != "ready":
        raise InvalidInput("version", row.name, f"the version is {row.state}; only a ready one can be released")


def _check_room(session: Session, version_id: int, stable: Release | None, canary: Release | None) -> None:
    name = session.scalar(select(Version.name).where(Version.id == version_id))
    if stable is None:
        remedy = "the line has no stable version to compare a canary with; release it with --strategy immediate"
        raise NothingStable("version", name, remedy)
    if stable.version_id == version_id:
        raise InvalidInput("version", name, "it is the stable version already")
    if canary is not None:
        raise InvalidInput("version", name, remedies.canary_in_the_way(session, canary))
