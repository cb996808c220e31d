"""What a report is made of: a run's versions, or a version's checkpoints, with their verdicts and training scores."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from db import checkpoints, lines, planning, results, unevaluated, versions
from db.tables import Decision, Line, Run, Version
from rl.choosing import Point, points_of
from rl.config import RunConfig, TaskSet
from rl.errors import InvalidInput
from rl.held_out import LoggedSet
from rl.line_state import AnySet, VersionState
from rl.report import Report
from rl.report_chain import of_chain

VERSION = re.compile(r"v\d+\.\d+\.\d+")


def report(session: Session, name: str, line: str = "main") -> Report:
    """The report of the run or the version called ``name``; a short name such as ``v1.0.3`` is one of ``line``.

    Raises:
        InvalidInput: there is neither, or no checkpoint of it was evaluated.
    """
    if VERSION.fullmatch(name):
        name = f"{lines.prefix_of(lines.named(session, line))}-{name}"
    run = session.scalar(select(Run).where(Run.name == name))
    version = session.scalar(select(Version).where(Version.name == name))
    if run is None and version is None:
        runs = ", ".join(session.scalars(select(Run.name).order_by(Run.id.desc()).limit(3))) or "none"
        made = ", ".join(session.scalars(select(Version.name).order_by(Version.id.desc()).limit(3))) or "none"
        raise InvalidInput("name", name, f"no such run or version; the newest runs are {runs}, the versions {made}")
    return of_version(session, version) if version is not None else of_run(session, run)  # type: ignore[arg-type]


def of_run(session: Session, run: Run) -> Report:
    """The run's versions in order, step 0 the one it started from.

    Raises:
        InvalidInput: the run began without a version.
    """
    line = session.scalars(select(Line).where(Line.id == run.line_id)).one()
    state = planning.line_state(session, line, run.name)
    found = next((one for one in state.runs if one.config.name == run.name), None)
    if found is None:
        raise InvalidInput("run", run.name, "it has no version that it started from, so there is nothing to compare")
    chain = state.chain(found)
    points = points_of(chain[0], chain[1:])
    config = RunConfig.model_validate(run.config)
    stop = config.early_stop
    return of_chain(
        "run",
        f"run {run.name} of line {line.name}: {run.state}",
        points,
        config.validation,
        labels={place: _short(point.label) for place, point in points.items()},
        patience=None if stop is None else stop.patience,
        patient_from=found.patient_from,
        decision=_decided(session, Decision.run_id == run.id),
    )


def of_version(session: Session, version: Version) -> Report:
    """The checkpoints of the version by optimizer step, step 0 what the decision compared it with, or its parent.

    Raises:
        InvalidInput: none of its checkpoints was evaluated.
    """
    rows = checkpoints.of_version(session, version)
    base = _base(session, version)
    task_set = _task_set(session, [one.sha256 for one in rows])
    if task_set is None:
        raise InvalidInput("version", version.name, f"it has no verdicts: {unevaluated.why(session, version)}")
    began = _began(version, rows[-1].step)
    points = points_of(None if base is None else _state(session, base, only_own=True), [_state(session, version)])
    placed = {_step(point, began, rows[-1].step): point for point in points.values()}
    if base is not None:
        placed = {0: points[0]} | {_step(one, began, rows[-1].step): one for place, one in points.items() if place}
    return of_chain(
        "version",
        f"version {version.name}: {version.state}",
        placed,
        task_set,
        labels={at: _short(one.label) if at == 0 else str(at) for at, one in placed.items()},
        decision=_decided(session, Decision.version_id == version.id),
    )


def _step(point: Point, began: int, last: int) -> int:
    """The optimizer step of this training, from 1 on; a training without updates stands at 1."""
    return max((last if point.step is None else point.step) - began, 1)


def _began(version: Version, last: int) -> int:
    """The step of the lineage that the training went on from."""
    updates = version.manifest.get("updates")
    return last - int(updates) if isinstance(updates, int) else 0


def _base(session: Session, version: Version) -> Version | None:
    """What the newest decision compared the version with; else the line's stable version, else its parent."""
    query = select(Decision.stable_id).where(Decision.version_id == version.id, Decision.stable_id.is_not(None))
    compared = session.scalars(query.order_by(Decision.id.desc()).limit(1)).one_or_none()
    if compared is None and (stable := versions.stable_name(session, version.line_id)) not in (None, version.name):
        compared = session.scalars(select(Version.id).where(Version.name == stable)).one()
    base = compared if compared not in (None, version.id) else version.parent_id
    return None if base is None else session.scalars(select(Version).where(Version.id == base)).one()


def _state(session: Session, version: Version, *, only_own: bool = False) -> VersionState:
    """The version with the results of its checkpoints."""
    rows = checkpoints.of_version(session, version)
    own = next(one for one in rows if one.id == version.checkpoint_id)
    found = results.results(session, sorted({one.sha256 for one in rows}))
    several = {} if only_own or len(rows) == 1 else {one.step: one for one in rows}
    return VersionState(
        name=version.name,
        state=version.state,
        windows=(),
        results=found.get(own.sha256, {}),
        checkpoints=tuple(several),
        chosen=own.step if several else None,
        steps={step: found.get(one.sha256, {}) for step, one in several.items()},
        scores={step: one.metrics["mean_score"] for step, one in several.items() if "mean_score" in one.metrics},
        reward=None if several else own.metrics.get("mean_score"),
        training=planning.training_of([own] if only_own else rows, version.manifest),
    )


SETS: Final = text("""
    select e.task_set from rlfleet.evaluations e where e.checkpoint_sha256 = any(:hashes)
     group by e.task_set_hash, e.task_set
     order by count(distinct e.checkpoint_sha256) desc, e.task_set ->> 'split' = 'validation' desc, max(e.id) desc
     limit 1
""")


def _task_set(session: Session, hashes: list[str]) -> AnySet | None:
    """What most of the checkpoints were judged on; of equal ones what checkpoints are chosen by, then the newest."""
    found: Mapping[str, Any] | None = session.scalar(SETS, {"hashes": hashes})
    if found is None:
        return None
    return TaskSet.model_validate(found) if "environment" in found else LoggedSet.model_validate(found)


def _decided(session: Session, which: Any) -> str:
    """The newest decision in words; empty where there is none."""
    query = select(Decision, Version).join(Version, Version.id == Decision.version_id).where(which)
    row = session.execute(query.order_by(Decision.id.desc()).limit(1)).one_or_none()
    if row is None:
        return ""
    decision, version = row
    return f"Decided: {version.name} {_became(decision)}: {decision.reason}{_refused(decision, version)}"


def _became(decision: Decision) -> str:
    if decision.released:
        return "is released" + (", unevaluated" if decision.evidence.get("evaluated") is False else "")
    if decision.stable_id == decision.version_id:
        return "stays the stable version"
    return "is released once a person approves" if decision.approval == "waiting" else "is not released"


def _refused(decision: Decision, version: Version) -> str:
    """Who refused it, and why, which is the reason that the version was rejected for."""
    if decision.approval != "refused":
        return ""
    by = f"refused by {decision.approved_by}"
    return f"; {version.reason}" if (version.reason or "").startswith(by) else f"; {by}"


def _short(label: str) -> str:
    """``v1.0.3`` of ``babylon-agent-v1.0.3``, with the step if it names one."""
    found = re.search(r"v\d+\.\d+\.\d+(@\d+)?$", label)
    return found[0] if found else label
