"""What the planner looks at, and what it wants made: the snapshot of every line, and the missing rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from db import alerts, dispatch, results, versions, windows
from db import lines as db_lines
from db.tables import Checkpoint, Line, Release, Run, Trajectory, Version, Window
from rl.config import LineConfig, RunConfig
from rl.health import Training
from rl.line_state import Alarmed, LineState, OpenRound, PauseRun, Results, RunState, VersionState, Want, WindowState
from rl.planner import Planned
from rl.windows import parse

OPEN = ("running", "paused")
"""The states of a run that has not ended."""
EARLY_STOP = "early_stop"
"""The name of the alert that a run waits for a person."""


def line_state(session: Session, line: Line, ended: str | None = None) -> LineState:
    """The line as the planner sees it now, with a run that has ``ended`` as if it had not where one is named."""
    runs = {run.id: run for run in session.scalars(select(Run).where(Run.line_id == line.id))}
    names = {version.id: version.name for version in session.scalars(select(Version).where(Version.line_id == line.id))}
    seen = {run.id: run for run in runs.values() if run.state in OPEN or run.name == ended}
    stable = versions.stable_name(session, line.id)
    stable_release = session.scalar(STABLE, {"line_id": line.id})
    canary = session.scalars(CANARY, {"line_id": line.id}).one_or_none()
    bases = {names[run.base_version_id] for run in seen.values() if run.base_version_id is not None}
    looked_at = bases | {one for one in (stable, canary) if one is not None}
    return LineState(
        name=line.name,
        config=LineConfig.model_validate(line.config),
        windows=tuple(
            WindowState(row.name, row.state, runs[row.run_id].name if row.run_id else None, row.round, row.again)
            for row in windows.on_line(session, line.id)
            if row.run_id is None or row.run_id in seen
        ),
        versions=tuple(_versions(session, line.id, looked_at, {run.name: run.id for run in seen.values()})),
        runs=tuple(
            RunState(
                RunConfig.model_validate(run.config),
                names[run.base_version_id],
                run.state == "paused",
                run.finishing,
                run.patient_from,
            )
            for run in seen.values()
            if run.base_version_id is not None
        ),
        stable=stable,
        canary=canary,
        stable_release=stable_release,
    )


CANARY = (
    select(Version.name)
    .join(Release, Release.version_id == Version.id)
    .where(Release.line_id == text(":line_id"), Release.stage == "canary", Release.ended_at.is_(None))
)
STABLE = select(Release.id).where(
    Release.line_id == text(":line_id"), Release.stage == "stable", Release.ended_at.is_(None)
)
TRAINED_ON = text("""
    select r.id, r.name, r.state, r.job_id, r.checkpoint_id,
           array(select jsonb_array_elements_text(j.inputs -> 'windows')) as windows,
           jsonb_build_object(
               'config', jsonb_build_object('kl', r.manifest #> '{config,kl}'),
               'rows',
               jsonb_build_object('used', r.manifest #> '{rows,used}', 'skipped', r.manifest #> '{rows,skipped}')
           ) as manifest
      from rlfleet.versions r join rlfleet.jobs j on j.id = r.job_id
     where r.line_id = :line_id order by r.number
""")
REWARDS = text("""
    select w.name, avg(t.reward) from rlfleet.windows w join rlfleet.trajectories t on t.window_id = w.id
     where w.run_id = any(:runs) and w.state = 'trained' group by w.name
""")


def _versions(session: Session, line_id: int, looked_at: set[str], runs: Mapping[str, int]) -> Iterator[VersionState]:
    """All of them; results only of candidates, of those ``looked_at``, and of those that the runs trained."""
    rows = session.execute(TRAINED_ON, {"line_id": line_id}).all()
    mine = {row.id: next((name.split("/")[1] for name in row.windows if name.startswith("run/")), None) for row in rows}
    open_ones = [row for row in rows if row.state == "candidate" or row.name in looked_at or mine[row.id] in runs]
    checkpoints: dict[int, list[Checkpoint]] = defaultdict(list)
    of_jobs = select(Checkpoint).where(Checkpoint.job_id.in_([row.job_id for row in open_ones]))
    for one in session.scalars(of_jobs.order_by(Checkpoint.step)):
        checkpoints[one.job_id].append(one)
    found = results.results(session, sorted({one.sha256 for several in checkpoints.values() for one in several}))
    rewards = {name: float(reward) for name, reward in session.execute(REWARDS, {"runs": list(runs.values())})}
    for row in rows:
        yield _version(row, checkpoints[row.job_id], found, rewards)


def _version(
    row: Any, checkpoints: Sequence[Checkpoint], found: Mapping[str, Results], rewards: Mapping[str, float]
) -> VersionState:
    own = next((one for one in checkpoints if one.id == row.checkpoint_id), None)
    known = [rewards[name] for name in row.windows if name in rewards]
    several = {one.step: one for one in checkpoints} if len(checkpoints) > 1 else {}
    return VersionState(
        name=row.name,
        state=row.state,
        windows=tuple(row.windows),
        results=found.get(own.sha256, {}) if own else {},
        checkpoints=tuple(several),
        chosen=own.step if own and several else None,
        steps={step: found.get(one.sha256, {}) for step, one in several.items()},
        scores={step: one.metrics["mean_score"] for step, one in several.items() if "mean_score" in one.metrics},
        reward=round(sum(known) / len(known), 6) if known else None,
        training=training_of(checkpoints, row.manifest),
    )


def training_of(checkpoints: Sequence[Checkpoint], manifest: Mapping[str, Any]) -> dict[int | None, Training]:
    """How the updates went that wrote a training's checkpoints, by step; by None where there is only one."""
    if len(checkpoints) == 1:
        return {None: Training.of(checkpoints[0].metrics, manifest)}
    last = max((one.step for one in checkpoints), default=0)
    return {one.step: Training.of(one.metrics, manifest, is_last=one.step == last) for one in checkpoints}


def carry_out(session: Session, line_id: int, wanted: Planned) -> None:
    """Make what the planner wants: a job, a round, or a run that waits for a person, who hears of it."""
    if isinstance(wanted, OpenRound):
        open_round(session, line_id, wanted)
    elif isinstance(wanted, PauseRun):
        run = db_lines.run_named(session, wanted.run)
        if db_lines.pause_run(session, run.id, wanted.reason):
            remedy = f"`rlfleet resume {run.name}` goes on, `rlfleet finish {run.name}` decides on what there is"
            alerts.record(session, EARLY_STOP, run.name, {"reason": wanted.reason, "remedy": remedy})
    else:
        request(session, line_id, wanted)


def raise_alarms(session: Session, found: Iterable[Alarmed]) -> None:
    """Tell a person of each alarm of each version once, however often it is found."""
    for one in found:
        alerts.raise_once(session, one.name, one.version, {"evidence": one.evidence})


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
    """The version that played a round, or that plays it: the newest of the rounds before, else the run's start.

    A version that is rejected plays no further round. One that it has played a part of stays its own: that is still
    gone on from where all of it was played, and given up where something is missing (``db.rounds``).
    """
    played = select(Version.name).join(Trajectory, Trajectory.agent_id == Version.name)
    known = session.scalars(played.where(Trajectory.window_id == window.id, Version.line_id == window.line_id).limit(1))
    if (name := known.first()) is not None:
        return name
    run = session.scalars(select(Run).where(Run.id == window.run_id)).one()
    row = session.execute(
        text("""
            select r.name from rlfleet.versions r join rlfleet.jobs j on j.id = r.job_id
             where r.line_id = :line_id and starts_with(j.inputs -> 'windows' ->> 0, :prefix)
               and j.inputs -> 'windows' ->> 0 < :window and r.state <> 'rejected'
             order by r.number desc limit 1
        """),
        {"line_id": run.line_id, "prefix": f"run/{run.name}/", "window": window.name},
    ).one_or_none()
    if row is not None:
        return str(row[0])
    return session.scalars(select(Version.name).where(Version.id == run.base_version_id)).one()
