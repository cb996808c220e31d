"""Decisions: the verdicts compared, the decision stored with its evidence, and the version put out."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from db import alerts, evaluations, lines, planning, promotions, releases, versions
from db.jobs import Claim
from db.tables import Decision, Run, Version
from rl.config import Release, TaskSet
from rl.errors import Tomorrow
from rl.held_out import LOGGED, LoggedSet
from rl.planner import LineState, chain_of
from rl.promotion import decide, no_improvement
from rl.verdicts import PolicyDecision, Verdicts

PERSON = "person"
"""The policy of a decision that no rule made."""
WAITING, GIVEN, REFUSED, SUPERSEDED = "waiting", "given", "refused", "superseded"
"""What becomes of a decision that a person must approve."""
ALERT = "approval_waiting"


def commit(session: Session, claim: Claim) -> dict[str, Any]:
    """Compare the candidate with the version it would replace; store and carry out what the policy says.

    The candidate's checkpoint is the one that the job names from here on. Nobody is asked any more about an earlier
    decision on it. A run ends here: its versions that were not chosen are rejected, with the reason. Nothing is decided
    when the stable version is no longer the one that this job was to compare with, when the candidate's fate is known,
    or when it was released meanwhile with another checkpoint, which stays: the planner sees what is there now and asks
    for another decision where one is missing.

    Raises:
        InvalidInput: a version was not evaluated on the decision's task set.
        TransientError: there are verdicts missing; see ``evaluations.compared``.
        Tomorrow: the line has a live canary, and at most one may be.
    """
    releases.lock(session, claim.line_id)
    candidate = versions.named(session, claim.inputs["candidate"])[0]
    run = session.scalar(select(Run).where(Run.name == claim.inputs["run"])) if claim.inputs.get("run") else None
    if outdated := _outdated(session, claim, candidate, run):
        return {"candidate": candidate.name, "undecided": outdated}
    if (canary := promotions.canary_of(session, claim.line_id)) is not None:
        raise Tomorrow(f"{candidate.name} waits: {canary[0]} is the line's canary, with {canary[1]} %")
    asked = evaluations.asked_for(session, candidate, claim.inputs)
    if candidate.state == "candidate":
        candidate.checkpoint_id = asked.id
        session.flush()
    elif candidate.checkpoint_id != asked.id:
        said = (
            f"{candidate.name} was released with another checkpoint, and keeps it: step {asked.step} is not decided on"
        )
        return {"candidate": candidate.name, "undecided": said}
    rival = versions.named(session, claim.inputs["base"])[0] if claim.inputs["base"] else None
    task_set = _task_set(claim.config["task_set"])
    policy = Release.model_validate(claim.config["release"])
    verdicts = evaluations.compared(session, candidate, rival, task_set)
    is_better = "no_improvement" not in claim.config.get("evidence", {})
    decided = _decide(candidate, rival, verdicts, policy, task_set, is_better=is_better)
    waits = decided.released and policy.approval
    decision = Decision(
        line_id=claim.line_id,
        run_id=run.id if run else None,
        job_id=claim.job_id,
        fence=claim.fence,
        version_id=candidate.id,
        stable_id=rival.id if rival else None,
        policy=decided.policy,
        released=decided.released and not waits,
        reason=decided.reason,
        evidence=_evidence(claim, decided, verdicts, candidate, rival),
        approval=WAITING if waits else None,
    )
    _supersede(session, candidate.id)
    session.add(decision)
    session.flush()
    became = _carry_out(session, candidate, decision, policy)
    if run is not None:
        _end_run(session, claim, run, candidate, decision)
    return {"version": candidate.name, "released": decision.released, "reason": decision.reason} | became


def by_person(
    session: Session,
    line_id: int,
    version_id: int,
    reason: str,
    actor: str,
    evidence: dict[str, Any] | None = None,
    *,
    stable_id: int | None = None,
    released: bool = True,
) -> int:
    """Store that ``actor`` wants the version released, or not, and why. Returns the decision's id.

    ``stable_id`` is the version that is stable, if it is another one.
    """
    _supersede(session, version_id)
    decision = Decision(
        line_id=line_id,
        version_id=version_id,
        stable_id=stable_id,
        policy=PERSON,
        released=released,
        reason=reason,
        evidence=evidence or {},
        actor=actor,
    )
    session.add(decision)
    session.flush()
    return decision.id


def _supersede(session: Session, version_id: int) -> None:
    """Nobody is asked any more about what was decided on the version before."""
    waiting = (Decision.version_id == version_id) & (Decision.approval == WAITING)
    if session.execute(update(Decision).where(waiting).values(approval=SUPERSEDED).returning(Decision.id)).first():
        alerts.settled(session, ALERT, session.get_one(Version, version_id).name)


def _outdated(session: Session, claim: Claim, candidate: Version, run: Run | None) -> str | None:
    """Why this decision is no longer to be made, in words; None when it is."""
    stable = versions.stable_name(session, claim.line_id)
    if _waits(session, candidate, stable):
        return f"{candidate.name} waits for approval already, compared with {stable or 'none'}"
    if stable is not None and stable != claim.inputs["base"]:
        return f"{stable} is stable now, and this was to compare with {claim.inputs['base'] or 'none'}"
    if run is not None and run.state != "running":
        return f"run {run.name} has ended"
    if run is not None:
        return f"{candidate.name} is rejected already" if candidate.state == "rejected" else None
    return None if candidate.state == "candidate" else f"{candidate.name} is {candidate.state} already"


def _waits(session: Session, candidate: Version, stable: str | None) -> bool:
    """Whether a person is asked about the candidate, compared with the version that is stable."""
    waiting = (Decision.version_id == candidate.id) & (Decision.approval == WAITING)
    rivals = select(Version.name).select_from(Decision).outerjoin(Version, Version.id == Decision.stable_id)
    return stable in session.scalars(rivals.where(waiting)).all()


def _task_set(config: dict[str, Any]) -> TaskSet | LoggedSet:
    return TaskSet.model_validate(config) if "environment" in config else LoggedSet.model_validate(config)


def _decide(
    candidate: Version,
    rival: Version | None,
    verdicts: Verdicts,
    policy: Release,
    task_set: TaskSet | LoggedSet,
    *,
    is_better: bool,
) -> PolicyDecision:
    if rival is not None and (rival.id == candidate.id or not is_better):
        return no_improvement(rival.name, verdicts, policy)
    against = task_set.against if isinstance(task_set, LoggedSet) else ""
    return decide(verdicts, policy, is_first=rival is None and not against)


def _evidence(
    claim: Claim, decided: PolicyDecision, verdicts: Verdicts, candidate: Version, rival: Version | None
) -> dict[str, Any]:
    """``counts`` are over all types, by version; ``environments`` are by type. Intervals hold 80 %."""
    of_candidate, of_rival = verdicts.overall()
    counts = {candidate.name: of_candidate.model_dump(mode="json")}
    if of_rival.n or rival is not None:
        counts.setdefault(rival.name if rival else LOGGED, of_rival.model_dump(mode="json"))
    shown = decided.model_dump(mode="json", exclude={"released", "policy", "reason"})
    gate = {"policy", "min_probability", "margin", "min_scenarios", "share", "strategy", "approval"}
    return {
        "task_set": claim.config["task_set"],
        "gate": Release.model_validate(claim.config["release"]).model_dump(mode="json", include=gate),
        "counts": counts,
        **shown,
        "selection": claim.config.get("evidence", {}),
    }


def _carry_out(session: Session, candidate: Version, decision: Decision, policy: Release) -> dict[str, Any]:
    if decision.approval == WAITING:
        detail = {"decision": decision.id, "reason": decision.reason, "remedy": f"rlfleet approve {candidate.name}"}
        alerts.record(session, ALERT, candidate.name, detail)
        return {"approval": WAITING}
    if decision.released:
        return {"stage": promotions.put_out(session, candidate, decision.id, policy, decision.reason)}
    if candidate.state == "candidate":
        versions.set_state(session, [candidate.id], "rejected", decision.reason)
    return {}


def _end_run(session: Session, claim: Claim, run: Run, candidate: Version, decision: Decision) -> None:
    kept = (candidate.name, claim.inputs["base"])
    others = [name for name in _chain(session, claim, run.name) if name not in kept]
    ids = list(session.scalars(select(Version.id).where(Version.name.in_(others), Version.state == "candidate")))
    versions.set_state(session, ids, "rejected", f"{candidate.name} was chosen among the run's versions")
    lines.end_run(session, run.id, "finished", decision.reason)


def _chain(session: Session, claim: Claim, run_name: str) -> list[str]:
    state: LineState = planning.line_state(session, lines.named(session, claim.line))
    run = next(one for one in state.runs if one.config.name == run_name)
    return [version.name for version in chain_of(state, run)]
