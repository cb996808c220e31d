"""Decisions: the verdicts compared, the decision stored with its evidence, and the release pointer moved."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from db import lines, planning, releases, versions
from db.jobs import Claim
from db.tables import Decision, Evaluation, Line, Run, Version
from rl import promotion
from rl.config import Release, TaskSet, digest
from rl.errors import InvalidInput
from rl.intervals import beta_interval
from rl.planner import LineState, chain_of


def commit(session: Session, claim: Claim) -> dict[str, Any]:
    """Compare the candidate with the version it would replace; store and carry out what the policy says.

    A run ends here: its versions that were not chosen are rejected, with the reason. Nothing is decided when the
    stable version is no longer the one that this job was to compare with, or when the candidate's fate is known:
    the planner sees what is there now and asks for another decision where one is missing.
    """
    task_set = TaskSet.model_validate(claim.config["task_set"])
    policy = Release.model_validate(claim.config["release"])
    session.execute(select(Line.id).where(Line.id == claim.line_id).with_for_update())
    candidate = versions.named(session, claim.inputs["candidate"])[0]
    if outdated := _outdated(session, claim, candidate):
        return {"candidate": candidate.name, "undecided": outdated}
    rival = versions.named(session, claim.inputs["base"])[0] if claim.inputs["base"] else None
    counts = {one.name: _counts(session, one.id, task_set) for one in (candidate, rival) if one is not None}
    decided = _decide(candidate, rival, counts, policy)
    decision = Decision(
        line_id=claim.line_id,
        run_id=session.scalar(select(Run.id).where(Run.name == claim.inputs.get("run"))),
        job_id=claim.job_id,
        fence=claim.fence,
        version_id=candidate.id,
        stable_id=rival.id if rival else None,
        policy=decided.policy,
        released=decided.released,
        reason=decided.reason,
        evidence=_evidence(claim, decided, counts, task_set),
    )
    session.add(decision)
    session.flush()
    _carry_out(session, claim, candidate, decision, policy)
    return {"version": candidate.name, "released": decided.released, "reason": decided.reason}


def _outdated(session: Session, claim: Claim, candidate: Version) -> str | None:
    """Why this decision is no longer to be made, in words; None when it is."""
    stable = versions.stable_name(session, claim.line_id)
    if stable is not None and stable != claim.inputs["base"]:
        return f"{stable} is stable now, and this was to compare with {claim.inputs['base'] or 'none'}"
    run = session.scalar(select(Run).where(Run.name == claim.inputs["run"])) if claim.inputs["run"] else None
    if run is not None and run.state != "running":
        return f"run {run.name} has ended"
    if run is not None:
        return f"{candidate.name} is rejected already" if candidate.state == "rejected" else None
    return None if candidate.state == "candidate" else f"{candidate.name} is {candidate.state} already"


def _counts(session: Session, version_id: int, task_set: TaskSet) -> tuple[int, int]:
    found = session.scalars(
        select(Evaluation).where(Evaluation.version_id == version_id, Evaluation.task_set_hash == digest(task_set))
    ).first()
    if found is None:
        raise InvalidInput("evaluation", version_id, "this version was not evaluated on the decision's task set")
    return found.k, found.n


def _decide(
    candidate: Version, rival: Version | None, counts: dict[str, tuple[int, int]], policy: Release
) -> promotion.Decision:
    if rival is not None and rival.id == candidate.id:
        return promotion.Decision(
            released=False,
            probability=None,
            policy=promotion.POLICY,
            reason=f"no improvement: {candidate.name} itself did best on the validation scenarios",
            would_change="a later version that does better on the validation scenarios",
        )
    return promotion.decide(counts[candidate.name], counts[rival.name] if rival else None, policy)


def _evidence(
    claim: Claim, decided: promotion.Decision, counts: dict[str, tuple[int, int]], task_set: TaskSet
) -> dict[str, Any]:
    return {
        "task_set": task_set.model_dump(mode="json"),
        "counts": {name: {"k": k, "n": n, "interval": beta_interval(k, n)} for name, (k, n) in counts.items()},
        "probability": decided.probability,
        "would_change": decided.would_change,
        "selection": claim.config.get("evidence", {}),
    }


def _carry_out(session: Session, claim: Claim, candidate: Version, decision: Decision, policy: Release) -> None:
    if decision.released:
        versions.set_state(session, [candidate.id], "ready", decision.reason)
        releases.replace_stable(session, claim.line_id, candidate.id, decision.id, policy.share, decision.reason)
    elif candidate.state == "candidate":
        versions.set_state(session, [candidate.id], "rejected", decision.reason)
    run = session.scalar(select(Run).where(Run.name == claim.inputs.get("run")))
    if run is not None:
        others = [
            name for name in _chain(session, claim, run.name) if name not in (candidate.name, claim.inputs["base"])
        ]
        unchosen = select(Version.id).where(Version.name.in_(others), Version.state == "candidate")
        ids = list(session.scalars(unchosen))
        versions.set_state(session, ids, "rejected", f"{candidate.name} was chosen among the run's versions")
        lines.end_run(session, run.id, "finished", decision.reason)


def _chain(session: Session, claim: Claim, run_name: str) -> list[str]:
    state: LineState = planning.line_state(session, lines.named(session, claim.line))
    run = next(one for one in state.runs if one.config.name == run_name)
    return [version.name for version in chain_of(state, run)]
