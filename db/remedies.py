"""What a person types next: whole commands, with the line they are about and the options that they need."""

from __future__ import annotations

from sqlalchemy.orm import Session

from db.tables import Line, Release, Version
from rl.release_plan import Plan


def rollback(session: Session, line_id: int) -> str:
    """Go back, on that line."""
    return f"`rlfleet rollback --line {_line(session, line_id)} --reason TEXT`"


def kill(session: Session, line_id: int) -> str:
    """Take all versions away from the line's agents."""
    return f"`rlfleet kill --on --line {_line(session, line_id)} --reason TEXT`"


def canary_in_the_way(session: Session, canary: Release) -> str:
    """What the line's live canary is, when it ends, and how a person ends it."""
    name = session.get_one(Version, canary.version_id).name
    back = rollback(session, canary.line_id)
    if canary.plan is not None and Plan.model_validate(canary.plan).hold:
        stay = f"`rlfleet deploy {name} --strategy immediate --reason TEXT`"
        return (
            f"{name} is in an A/B test with {canary.share} % of the line's agents, and a person ends it: "
            f"{stay} makes it the stable version, {back} rejects it"
        )
    shown = f"`rlfleet releases --line {_line(session, canary.line_id)}`"
    return f"{name} is the line's canary with {canary.share} %; wait for its end ({shown}), or end it with {back}"


def _line(session: Session, line_id: int) -> str:
    return session.get_one(Line, line_id).name
