"""Versions with the windows they were trained on, evaluations with counts, and runs to decide on."""

from __future__ import annotations

import secrets

from sqlalchemy import select
from sqlalchemy.orm import Session

from db import dispatch, lines, releases, versions, windows
from db.tables import Evaluation, Line, Run, Version
from rl.config import GrpoTrain, LineConfig, Optimizer, Release, Rollout, RunConfig, TaskSet, digest
from rl.windows import round_of

VALIDATION = TaskSet(environment="gridworld", split="validation", count=100)
HELD_OUT = TaskSet(environment="gridworld", split="held_out", count=1)
POLICY = Release(min_probability=0.8, min_scenarios=1, share=40)


def add_line(session: Session, name: str = "main") -> Line:
    """A line that decides by ``POLICY`` on ``VALIDATION``."""
    lines.put(session, name, LineConfig(base_model="random-qwen3", validation=VALIDATION, release=POLICY))
    return lines.named(session, name)


def add_version(session: Session, line: Line, *trained_on: str, state: str = "candidate") -> Version:
    """The line's next version, trained on those windows; ``n`` keeps the jobs of two such versions apart."""
    inputs = {"windows": list(trained_on), "n": secrets.token_hex(4)}
    job_id = dispatch.request(session, dispatch.Spec("train", line.id, inputs=inputs, config={}, queue="gpu"))
    checkpoint = versions.NewCheckpoint(1, "adapter", "/checkpoint", "/base", "0" * 64, {})
    version = versions.add(
        session,
        line=line,
        prefix=lines.prefix_of(line),
        job_id=job_id,
        fence=1,
        checkpoints=[checkpoint],
        parent_id=None,
        base_model="random-qwen3",
        manifest={},
    )
    versions.set_state(session, [version.id], state, "set by a test")
    return version


def evaluate(session: Session, version: Version, k: int, n: int, task_set: TaskSet = VALIDATION) -> None:
    """``k`` of ``n`` verdicts were right."""
    inputs = {"version": version.name, "task_set": digest(task_set)}
    job_id = dispatch.request(
        session, dispatch.Spec("evaluate", version.line_id, inputs=inputs, config={}, queue="gpu")
    )
    session.add(
        Evaluation(
            job_id=job_id,
            fence=1,
            version_id=version.id,
            checkpoint_id=version.checkpoint_id,
            task_set=task_set.model_dump(mode="json"),
            task_set_hash=digest(task_set),
            judge="environment",
            prompt_hash="",
            ids_sha256="",
            k=k,
            n=n,
            missing=0,
        )
    )
    session.flush()


def release(session: Session, version: Version) -> None:
    """Make the version, which is ``ready``, the stable one."""
    releases.replace_stable(session, version.line_id, version.id, None, 100, "released by a test")


def start_run(session: Session, base: Version, name: str = "demo", rounds: int = 2) -> int:
    """The id of a run from ``base``, every round of it trained."""
    config = RunConfig(
        name=name,
        rounds=rounds,
        rollout=Rollout(environment="gridworld", scenarios=1, episodes=2),
        train=GrpoTrain(optimizer=Optimizer(learning_rate=0.001)),
        validation=VALIDATION,
        held_out=HELD_OUT,
        release=POLICY,
    )
    run_id = lines.start_run(session, base.line_id, config, base.id)
    for number in range(1, rounds + 1):
        windows.ensure(session, base.line_id, round_of(name, number), state="trained", run_id=run_id)
    return run_id


def states(session: Session) -> dict[str, str]:
    """Every version's state."""
    return {row.name: row.state for row in session.execute(select(Version.name, Version.state))}


def run_of(session: Session, run_id: int) -> tuple[str, str | None]:
    """The run's state and reason."""
    row = session.execute(select(Run.state, Run.reason).where(Run.id == run_id)).one()
    return row.state, row.reason
