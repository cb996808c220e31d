"""Versions with several checkpoints, typed verdicts on them, and rounds with rewards."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import checkpoints, dispatch, lines, trajectories, versions, windows
from db.tables import Evaluation, Line, Verdict, Version
from rl.config import LineConfig, TaskSet, digest
from rl.held_out import LoggedSet
from rl.records import Trajectory
from rl.windows import parse

VALIDATION = TaskSet(environment="gridworld", split="validation", count=20)
SUCCEEDED = text("update rlfleet.jobs set state = 'succeeded', finished_at = now() where id = :id")
Counts = Mapping[str, tuple[int, int]]


def add_line(session: Session, name: str = "main", **config: object) -> Line:
    """A line that is validated on ``VALIDATION``."""
    given: dict[str, object] = {"base_model": "/base", "validation": VALIDATION}
    lines.put(session, name, LineConfig.model_validate(given | config))
    return lines.named(session, name)


def add_version(
    session: Session,
    line: Line,
    steps: Sequence[int] = (4,),
    *trained_on: str,
    parent: Version | None = None,
    state: str = "ready",
    scores: Sequence[float] = (),
    **manifest: object,
) -> Version:
    """The line's next version, with a checkpoint at each step; its training succeeded."""
    inputs = {"windows": list(trained_on), "n": secrets.token_hex(4)}
    job_id = dispatch.request(session, dispatch.Spec("train", line.id, inputs=inputs, config={}, queue="gpu"))
    session.execute(
        text("update rlfleet.jobs set state = 'succeeded', finished_at = now() where id = :id"), {"id": job_id}
    )
    uri = f"/artifacts/jobs/{job_id}/fence-1/step-"
    metrics = [{"mean_score": one} for one in scores] or [{} for _ in steps]
    made = [
        versions.NewCheckpoint(step, "adapter", f"{uri}{step:06d}", "/base", digest(job_id, step), said)
        for step, said in zip(steps, metrics, strict=True)
    ]
    version = versions.add(
        session,
        line=line,
        prefix=lines.prefix_of(line),
        job_id=job_id,
        fence=1,
        checkpoints=made,
        parent_id=parent.id if parent else None,
        base_model="/base",
        manifest=manifest,
    )
    versions.set_state(session, [version.id], state, "set by a test")
    return version


def judge(
    session: Session,
    version: Version,
    step: int,
    types: Counts,
    task_set: TaskSet | LoggedSet = VALIDATION,
    *,
    missing: int = 0,
    by: str = "environment",
    ties: int = 0,
) -> None:
    """Of each type ``k`` of ``n`` verdicts were right; ``missing`` more have none. Of duels some are ``ties``."""
    inputs = {"version": version.name, "step": step, "n": secrets.token_hex(4)}
    job_id = dispatch.request(session, dispatch.Spec("evaluate", version.line_id, inputs, {}, "gpu"))
    session.execute(
        text("update rlfleet.jobs set state = 'succeeded', finished_at = now() where id = :id"), {"id": job_id}
    )
    checkpoint = next(one for one in checkpoints.of_version(session, version) if one.step == step)
    evaluation = Evaluation(
        job_id=job_id,
        fence=1,
        version_id=version.id,
        checkpoint_id=checkpoint.id,
        checkpoint_sha256=checkpoint.sha256,
        task_set=task_set.model_dump(mode="json"),
        task_set_hash=digest(task_set),
        judge=by,
        prompt_hash="",
        against=getattr(task_set, "against", ""),
        ids_sha256="",
        k=sum(k for k, _ in types.values()),
        n=sum(n for _, n in types.values()),
        missing=missing,
    )
    session.add(evaluation)
    session.flush()
    duel = bool(getattr(task_set, "against", ""))
    rows = [(f"{name}/{place}", name, place < k) for name, (k, n) in types.items() for place in range(n)]
    for place, (scenario, name, is_right) in enumerate(rows):
        rival = (not is_right or place < ties) if duel else None
        session.add(_verdict(evaluation.id, scenario, name, right=is_right, rival=rival))
    session.add_all(
        _verdict(evaluation.id, f"missing/{place}", next(iter(types)), right=None) for place in range(missing)
    )
    session.flush()


def _verdict(evaluation: int, scenario: str, name: str, *, right: bool | None, rival: bool | None = None) -> Verdict:
    return Verdict(
        evaluation_id=evaluation,
        scenario_id=scenario,
        sample=0,
        right=right,
        rival_right=rival,
        content_hash="",
        turns=1,
        type=name,
        reason=None if right is not None else "set by a test",
    )


def play(session: Session, line: Line, window: str, rewards: Sequence[float], run_id: int | None = None) -> None:
    """A round with one trajectory a reward."""
    window_id = windows.ensure(session, line.id, parse(window), state="trained", run_id=run_id)
    moment = datetime(2025, 1, 15, tzinfo=UTC)
    played = [
        Trajectory(
            trajectory_id=f"{window}/{place}",
            scenario_id=f"s{place}",
            agent_id="a",
            started_at=moment,
            ended_at=moment,
            reward=reward,
            calls=[],
        )
        for place, reward in enumerate(rewards)
    ]
    trajectories.insert_trajectories(session, line.id, window_id, "environment", played)
