"""Versions with the windows they were trained on, evaluations with counts, and runs to decide on."""

from __future__ import annotations

import secrets
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from db import dispatch, lines, versions, windows
from db.tables import Checkpoint, Evaluation, Line, Run, Verdict, Version
from rl.config import GrpoTrain, LineConfig, Optimizer, Release, Rollout, RunConfig, TaskSet, digest
from rl.windows import round_of
from tests.conftest_database import released

VALIDATION = TaskSet(environment="gridworld", split="validation", count=100)
HELD_OUT = TaskSet(environment="gridworld", split="held_out", count=1)
POLICY = Release(min_probability=0.7, margin=0, min_scenarios=1, share=40, strategy="immediate")


def add_line(session: Session, name: str = "main") -> Line:
    """A line that decides by ``POLICY`` on ``VALIDATION``."""
    lines.put(session, name, LineConfig(base_model="random-qwen3", validation=VALIDATION, release=POLICY))
    return lines.named(session, name)


def add_version(session: Session, line: Line, *trained_on: str, state: str = "candidate") -> Version:
    """The line's next version, trained on those windows; ``n`` keeps the jobs of two such versions apart."""
    inputs = {"windows": list(trained_on), "n": secrets.token_hex(4)}
    job_id = dispatch.request(session, dispatch.Spec("train", line.id, inputs=inputs, config={}, queue="gpu"))
    checkpoint = versions.NewCheckpoint(1, "adapter", "/checkpoint", "/base", digest(job_id), {})
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
    """Of ``n`` verdicts the first ``k`` were right."""
    inputs = {"version": version.name, "task_set": digest(task_set)}
    job_id = dispatch.request(
        session, dispatch.Spec("evaluate", version.line_id, inputs=inputs, config={}, queue="gpu")
    )
    checkpoint = session.scalars(select(Checkpoint).where(Checkpoint.id == version.checkpoint_id)).one()
    evaluation = Evaluation(
        job_id=job_id,
        fence=1,
        version_id=version.id,
        checkpoint_id=checkpoint.id,
        checkpoint_sha256=checkpoint.sha256,
        task_set=task_set.model_dump(mode="json"),
        task_set_hash=digest(task_set),
        judge="environment",
        prompt_hash="",
        ids_sha256="",
        k=k,
        n=n,
        missing=0,
    )
    session.add(evaluation)
    session.flush()
    session.add_all(
        Verdict(
            evaluation_id=evaluation.id,
            scenario_id=f"{task_set.environment}/{task_set.split}/{seed}",
            sample=0,
            right=seed < k,
            content_hash="",
            turns=1,
        )
        for seed in range(n)
    )
    session.flush()


def release(session: Session, version: Version) -> None:
    """Make the version, which is ``ready``, the stable one."""
    released(session, version.line_id, version.id, 100, "released by a test")


def run_config(**values: Any) -> RunConfig:
    """A run called ``demo`` that decides by ``POLICY``; ``values`` are what it has otherwise."""
    known = {
        "name": "demo",
        "rounds": 2,
        "rollout": Rollout(environment="gridworld", scenarios=1, episodes=2),
        "train": GrpoTrain(optimizer=Optimizer(learning_rate=0.001)),
        "validation": VALIDATION,
        "held_out": HELD_OUT,
        "release": POLICY,
    }
    return RunConfig(**known | values)


def start_run(session: Session, base: Version, name: str = "demo", rounds: int = 2, **values: Any) -> int:
    """The id of a run from ``base``, every round of it trained; see ``run_config``."""
    run_id = lines.start_run(session, base.line_id, run_config(name=name, rounds=rounds, **values), base.id)
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
