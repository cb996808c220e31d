"""Evaluate a version: the device's child serves its checkpoint on loopback, and this task plays the scenarios.

Nothing of it passes the gateway, so nothing of it can become training data.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from rl.errors import EngineUnavailable
from tasks.carry import carry_out
from worker.app import app
from worker.child import resident
from worker.settings import settings

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.jobs import Claim
    from environments.play import Outcome
    from rl.config import TaskSet
    from tasks.carry import Effect, Lease

JUDGE = "environment"


@app.task(name="rlfleet.evaluate")
def evaluate(job_id: int) -> str:
    """Store the version's verdicts on the task set; the answer says what became of the job."""
    return carry_out(job_id, _work, leaves=True)


def _work(claim: Claim, lease: Lease) -> Effect:
    from db import versions
    from db.session import transaction
    from rl.config import TaskSet, digest

    task_set = TaskSet.model_validate(claim.config)
    with transaction() as session:
        version, checkpoint = versions.named(session, claim.inputs["version"])
    try:
        outcomes, prompt_hash = asyncio.run(_play(claim, task_set, version.name, checkpoint.uri, lease))
    except EngineUnavailable:
        # A child that lives and does not answer hangs; the next attempt, here or elsewhere, gets another.
        resident().kill()
        raise

    def effect(session: Session) -> dict[str, Any]:
        from db.tables import Evaluation
        from rl.records import ids_sha256

        k = sum(one.success for one in outcomes)
        evaluation = Evaluation(
            job_id=claim.job_id,
            fence=claim.fence,
            version_id=version.id,
            checkpoint_id=checkpoint.id,
            task_set=task_set.model_dump(mode="json"),
            task_set_hash=digest(task_set),
            judge=JUDGE,
            prompt_hash=prompt_hash,
            ids_sha256=ids_sha256([one.scenario_id for one in outcomes]),
            k=k,
            n=len(outcomes),
            missing=0,
        )
        versions.add_evaluation(session, evaluation, [_verdict(one) for one in outcomes])
        return {"version": version.name, "split": task_set.split, "k": k, "n": len(outcomes)}

    return effect


async def _play(claim: Claim, task_set: TaskSet, version: str, uri: str, lease: Lease) -> tuple[list[Outcome], str]:
    import environments
    from environments.agent import ChatClient
    from environments.play import Assignment, play_many
    from rl.config import digest
    from rl.records import ScenarioRef
    from tasks.engine import serve_version

    environment = environments.load(task_set.environment)
    url = await lease.during(serve_version(version, uri, lease.beat))
    refs = [
        ScenarioRef(environment=task_set.environment, split=task_set.split, seed=seed)
        for seed in range(task_set.first_seed, task_set.first_seed + task_set.count)
    ]
    chosen = [Assignment(ref, f"evaluation/{claim.job_id}/{claim.fence}/{ref.id}", 0) for ref in refs]

    about = {"stage": "evaluate", "version": version, "split": task_set.split}
    beat = lease.count(about)

    async with ChatClient(url, settings().engine_key, version, 0.0, environment.max_tokens, "evaluation") as chat:
        outcomes = await lease.during(play_many(environment, chosen, chat, 64, beat))
    return outcomes, digest(environment.system)


def _verdict(outcome: Outcome) -> dict[str, Any]:
    return {
        "scenario_id": outcome.scenario_id,
        "sample": 0,
        "right": outcome.success,
        "content_hash": outcome.content_hash,
        "turns": outcome.turns,
    }
