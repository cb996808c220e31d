"""A person puts a version out: at once, by degrees as the line's config says, or as one side of an A/B test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from db import decisions, lines, promotions, releases, remedies, versions
from db.tables import Checkpoint, Evaluation, Line, Release, Version
from rl.errors import InvalidInput, NotEvaluated
from rl.release_plan import Plan, held_at

Strategy = Literal["gradual", "immediate", "test"]
TEST_SHARE = 50


@dataclass(frozen=True)
class Deployed:
    """What holds after a deployment. ``changed`` is false when it did before; ``evaluated``: verdicts are stored."""

    line: str
    version: str
    stage: str
    share: int
    release_id: int
    changed: bool
    evaluated: bool


def deploy(
    session: Session,
    name: str,
    reason: str,
    actor: str,
    *,
    strategy: Strategy | None = None,
    share: int | None = None,
    unevaluated: bool = False,
) -> Deployed:
    """Release the version called ``name``. Without a strategy: the line's, where another version is stable.

    ``share`` is the percentage of agents that it has in the end: the line's, unless given, and of a canary no more than
    the stable version has; of a test, which has it from the beginning, 50.

    Raises:
        InvalidInput: the share cannot be, or leaves the stable version no agents to be compared with; the version is
            rejected, or not evaluated and ``unevaluated`` was not said; another canary is live; or the strategy needs
            a stable version and there is none.
    """
    version = versions.named(session, name)[0]
    releases.lock(session, version.line_id)
    session.refresh(version)
    line = session.scalars(select(Line).where(Line.id == version.line_id)).one()
    stable = releases.current(session, line.id, "stable")
    usual = lines.config_of(line).release.strategy
    chosen = strategy or (usual if stable and stable.version_id != version.id else "immediate")
    plan = _plan(line, chosen, share, stable)
    evaluated = _check(session, version, unevaluated)
    given = plan.share if plan else lines.config_of(line).release.share if share is None else share
    changed = not _is_so(session, version, plan, given)
    if changed:
        evidence = {"strategy": chosen, "share": given, "evaluated": evaluated}
        over = stable.version_id if stable and stable.version_id != version.id else None
        decision_id = decisions.by_person(session, line.id, version.id, reason, actor, evidence, stable_id=over)
        _put_out(session, version, decision_id, plan, given, reason, actor)
    live = (Release.version_id == version.id) & Release.ended_at.is_(None)
    row = session.scalars(select(Release).where(live)).one()
    return Deployed(line.name, name, row.stage, row.share, row.id, changed, evaluated)


def _check(session: Session, version: Version, unevaluated: bool) -> bool:
    """Whether its checkpoint was evaluated."""
    if version.state == "rejected":
        remedy = f"it was rejected ({version.reason}), and such a version is not released again; name another"
        raise InvalidInput("version", version.name, remedy)
    sha256 = select(Checkpoint.sha256).where(Checkpoint.id == version.checkpoint_id).scalar_subquery()
    found = session.scalar(select(Evaluation.id).where(Evaluation.checkpoint_sha256 == sha256).limit(1))
    if found is None and not unevaluated:
        remedy = "no evaluation of it is stored; wait for one, or release it unseen with --unevaluated"
        raise NotEvaluated("version", version.name, remedy)
    return found is not None


def _plan(line: Line, strategy: Strategy, share: int | None, stable: Release | None) -> Plan | None:
    """How it goes on as a canary; None for one that is stable at once."""
    release = lines.config_of(line).release
    if strategy == "immediate":
        if share is not None and not 0 <= share <= 100:
            raise InvalidInput("share", share, "a share is a percentage of agents, 0 to 100")
        return None
    if strategy == "test":
        plan = held_at(TEST_SHARE if share is None else share, release.rules)
    elif share is not None and not 1 <= share <= 100:
        raise InvalidInput("share", share, "a canary needs agents; give 1 to 100 per cent")
    else:
        plan = promotions.plan_of(release, 100 if stable is None else stable.share)
        plan = plan if share is None else Plan.model_validate({**plan.model_dump(), "share": share})
    if stable is not None:
        _check_compared(line, plan, stable.share)
    return plan


def _check_compared(line: Line, plan: Plan, stable: int) -> None:
    """Refuse a plan by which the canary takes all the agents of the stable version before its last stage.

    An agent below the canary's share gets the canary, so the canary's agents come out of the stable version's.
    """
    compared = [one.share for one in plan.stages.stages if plan.hold or one.share < 100]
    most = max((plan.of_agents(one) for one in compared), default=0)
    if most >= stable:
        what = f"the stable version of line {line.name} has {stable} %, and the canary's agents come out of these: "
        remedy = f"with {most} % none is left to compare with; give less, or raise the stable version's share first"
        raise InvalidInput("share", most, what + remedy)


def _is_so(session: Session, version: Version, plan: Plan | None, share: int) -> bool:
    """Whether the version has what is asked for."""
    canary = releases.current(session, version.line_id, "canary")
    if plan is not None:
        return canary is not None and (canary.version_id, canary.plan) == (version.id, plan.model_dump(mode="json"))
    stable = releases.current(session, version.line_id, "stable")
    return stable is not None and canary is None and (stable.version_id, stable.share) == (version.id, share)


def _put_out(
    session: Session, version: Version, decision_id: int, plan: Plan | None, share: int, reason: str, actor: str
) -> None:
    if version.state == "candidate":
        versions.set_state(session, [version.id], "ready", f"deployed by {actor}: {reason}")
    if plan is not None:
        releases.start_canary(session, version.line_id, version.id, decision_id, plan, reason)
        return
    canary = releases.current(session, version.line_id, "canary")
    if canary is not None and canary.version_id != version.id:
        raise InvalidInput("version", version.name, remedies.canary_in_the_way(session, canary))
    releases.replace_stable(session, version.line_id, version.id, decision_id, share, reason)
