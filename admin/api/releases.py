"""Who answers a line's agents, and a person's word on that: deploy, roll back, pin, kill."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from admin.access import Operator, Viewer
from admin.acting import acting
from admin.api.sent import as_sent
from admin.api.shapes import PROBLEMS, AnyLine, Body, LineName, LineOfVersion, LinePath, Reason, VersionWord
from db import controls, deployments, lines, release_history, rollbacks, versions
from db.released import by_line
from db.session import transaction

router = APIRouter(prefix="/api/admin", tags=["releases"], responses=PROBLEMS)
SAID = "said through the admin API"


class Release(BaseModel):
    """A release; ``ended`` null: it is live. ``look`` is the last one at its traffic; moments are ISO 8601."""

    stage: Literal["canary", "stable"]
    version: str
    state: str
    share: int = Field(description="per cent of the line's agents")
    reason: str
    began: str
    ended: str | None
    ended_reason: str | None
    plan: dict[str, Any] | None
    look: dict[str, Any] | None
    looked_at: str | None
    is_unwatched: bool


class LineReleases(BaseModel):
    """A line's releases. Not ``ok``: its last canary was rolled back, and nothing was released since."""

    line: str
    ok: bool
    killed: bool
    pinned: str | None
    pin_counts: bool
    stable: Release | None
    canary: Release | None
    waiting: list[str]
    history: list[Release]


class Releases(BaseModel):
    """All lines by name, or the one that was asked for."""

    lines: list[LineReleases]


class Deploy(Body):
    """The version, how it goes out, and how far."""

    modelVersion: VersionWord = Field(description="a whole name, or v1.0.3 of the line")  # noqa: N815 - known names
    strategy: Literal["immediate", "gradual", "test"] | None = Field(
        None, description="stable at once, a canary that grows, or a fixed share; left out: the line's"
    )
    rolloutPercentage: int | None = Field(  # noqa: N815
        None, ge=0, le=100, description="per cent of the agents that it has in the end; left out: the line's"
    )
    reason: Reason = SAID
    unevaluated: bool = Field(False, description="although no evaluation of it is stored")


class Deployed(BaseModel):
    """What holds now. ``changed`` is false where it did before; ``evaluated``: verdicts of it are stored."""

    success: Literal[True] = True
    deploymentId: int  # noqa: N815
    line: str
    version: str
    stage: str
    share: int
    changed: bool
    evaluated: bool


class Rollback(Body):
    """Where to go back to."""

    targetVersion: VersionWord | None = Field(  # noqa: N815
        None, description="left out: the canary ends; without one, the version that was stable before is so again"
    )
    reason: Reason = SAID


class RolledBack(BaseModel):
    """What is stable now, and the versions that were left; a ``pinned`` one answers all agents all the same."""

    success: Literal[True] = True
    line: str
    stable: str
    share: int
    left: list[str]
    changed: bool
    pinned: str | None


class Pin(Body):
    """The version that answers all agents of the line; null: the releases say who does."""

    version: VersionWord | None
    reason: Reason


class Pinned(BaseModel):
    """What holds now; ``changed`` is false where it did before."""

    success: Literal[True] = True
    line: str
    pinned: str | None
    changed: bool


class Kill(Body):
    """Whether all versions of the line are taken away from its agents."""

    on: Annotated[bool, Field(description="true: the base model answers, where there is one")]
    reason: Reason


class Killed(BaseModel):
    """What holds now; ``changed`` is false where it did before."""

    success: Literal[True] = True
    line: str
    killed: bool
    changed: bool


@router.get("/releases")
def list_releases(_: Viewer, line: AnyLine = None) -> Releases:
    """What is released, how a canary does, and what was before."""
    with transaction() as session:
        found = release_history.of_lines(session, line)
        now = by_line(session)
    shown = [LineReleases.model_validate(release_history.plain(one, now[one.line])) for one in found]
    return Releases(lines=shown)


@router.post("/deploy")
def deploy(body: Deploy, caller: Operator, line: LineOfVersion = None) -> Deployed:
    """Release a version by hand. The same again changes nothing. 400 for a version of another line."""
    share, how = body.rolloutPercentage, body.strategy
    detail = {"line": line, "strategy": how, "share": share, "reason": body.reason}
    detail |= {"unevaluated": True} if body.unevaluated else {}
    fields = {"version": "modelVersion", "share": "rolloutPercentage"}
    with acting(caller, "deploy", body.modelVersion, **detail) as session, as_sent(**fields):
        found = deployments.deploy(
            session,
            lines.full_name(session, body.modelVersion, line),
            body.reason,
            caller.actor,
            strategy=how,
            share=share,
            unevaluated=body.unevaluated,
        )
    told = {name: value for name, value in vars(found).items() if name != "release_id"}
    return Deployed(deploymentId=found.release_id, **told)


@router.post("/rollback")
def roll_back(body: Rollback, caller: Operator, line: LineName = "main") -> RolledBack:
    """End the canary, or go back to a version that was stable before. The version that is left is rejected."""
    with (
        acting(caller, "rollback", line, to=body.targetVersion, reason=body.reason) as session,
        as_sent(to="targetVersion"),
    ):
        to = body.targetVersion and lines.full_name(session, body.targetVersion, line)
        if to is not None:
            versions.named(session, to)
        found = rollbacks.roll_back(session, line, to, body.reason, caller.actor)
    return RolledBack(**vars(found))


@router.post("/lines/{line}/pin")
def pin(line: LinePath, body: Pin, caller: Operator) -> Pinned:
    """Let one version answer all agents of a line, whatever is released, until the pin is cleared."""
    with acting(caller, "pin", line, version=body.version, reason=body.reason) as session:
        line_id = lines.named(session, line).id
        name = body.version and lines.full_name(session, body.version, line)
        version_id = versions.named(session, name)[0].id if name else None
        changed = controls.pin(session, line_id, version_id, body.reason, caller.actor)
    return Pinned(line=line, pinned=name, changed=changed)


@router.post("/lines/{line}/kill")
def kill(line: LinePath, body: Kill, caller: Operator) -> Killed:
    """Take all versions of a line away from its agents at once, or give them back. Nothing else changes."""
    with acting(caller, "kill" if body.on else "kill off", line, reason=body.reason) as session:
        changed = controls.kill(session, lines.named(session, line).id, body.on, body.reason, caller.actor)
    return Killed(line=line, killed=body.on, changed=changed)
