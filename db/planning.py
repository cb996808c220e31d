"""What the planner looks at, and what it wants made: the snapshot of every line, and the missing rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from db import dispatch, versions, windows
from db.tables import Line, Run, Version, Window
from rl.config import LineConfig, RunConfig
from rl.planner import LineState, OpenRound, Result, RunState, VersionState, Want, WindowState
from rl.windows import parse


def line_state(session: Session, line: Line) -> LineState:
    """The line as the planner sees it now."""
    runs = {run.id: run for run in session.scalars(select(Run).where(Run.line_id == line.id))}
    names = {version.id: version.name for version in session.scalars(select(Version).where(Version.line_id == line.id))}
    return LineState(
        name=line.name,
        config=LineConfig.model_validate(line.config),
        windows=tuple(
            WindowState(row.name, row.state, runs[row.run_id].name if row.run_id else None, row.round, row.again)
            for row in windows.on_line(session, line.id)
            if row.run_id is None or runs[row.run_id].state == "running"
        ),
        versions=tuple(_versions(session, line.id)),
        runs=tuple(
            RunState(RunConfig.model_validate(run.config), names[run.base_version_id])
            for run in runs.values()
            if run.state == "running" and run.base_version_id is not None
        ),
        stable=versions.stable_name(session, line.id),
    )


def _versions(session: Session, line_id: int) -> Iterable[VersionState]:
    results: dict[int, dict[str, Result]] = defaultdict(dict)
    found = session.execute(
        text("""
            select e.version_id, e.task_set_hash, e.k, e.n,
                   coalesce((select avg(v.turns) from rlfleet.verdicts v where v.evaluation_id = e.id), 0)
              from rlfleet.evaluations e join rlfleet.versions r on r.id = e.version_id
             where r.line_id = :line_id
        """),
        {"line_id": line_id},
    )
    for version_id, task_set, k, n, turns in found:
        results[version_id][task_set] = Result(k, n, float(turns))
    rows = session.execute(
        text("""
            select r.id, r.name, r.state, array(select jsonb_array_elements_text(j.inputs -> 'windows'))
              from rlfleet.versions r join rlfleet.jobs j on j.id = r.job_id
             where r.line_id = :line_id order by r.number
        """),
        {"line_id": line_id},
    )
    for version_id, name, state, trained_on in rows:
        yield VersionState(name, state, tuple(trained_on), results[version_id])


def request(
    session: Session, line_id: int, want: Want, after: tuple[int, ...] = (), not_before: datetime | None = None
) -> int:
    """The id of the job for ``want``, created if it is not there in any state."""
    spec = dispatch.Spec(
        want.kind,
        line_id,
        want.inputs,
        want.config,
        want.queue,
        after,
        want.priority,
        devices=want.config.get("devices", 1),
        not_before=not_before,
    )
    return dispatch.request(session, spec)


def open_round(session: Session, line_id: int, wanted: OpenRound) -> int:
    """The id of the round's window, created closed: its scenarios are fixed, so there is nothing to wait for."""
    run_id = session.scalars(select(Run.id).where(Run.name == wanted.run)).one()
    return windows.ensure(session, line_id, parse(wanted.window), state="closed", run_id=run_id)


def lines(session: Session) -> list[Line]:
    """Every line, oldest first."""
    return list(session.scalars(select(Line).order_by(Line.id)))


def policy_of(session: Session, window: Window) -> str:
    """The version that plays a round: the one trained on the round before, or the one the run started from."""
    run = session.scalars(select(Run).where(Run.id == window.run_id)).one()
    row = session.execute(
        text("""
            select r.name from rlfleet.versions r join rlfleet.jobs j on j.id = r.job_id
             where r.line_id = :line_id and starts_with(j.inputs -> 'windows' ->> 0, :prefix)
               and j.inputs -> 'windows' ->> 0 < :window
             order by r.number desc limit 1
        """),
        {"line_id": run.line_id, "prefix": f"run/{run.name}/", "window": window.name},
    ).one_or_none()
    if row is not None:
        return str(row[0])
    return session.scalars(select(Version.name).where(Version.id == run.base_version_id)).one()
