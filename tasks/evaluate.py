"""Evaluate a checkpoint on one shard of a task set: the device's child serves it on loopback, and this task plays.

Nothing of it passes the gateway, so nothing of it can become training data. Scenarios of logs are answered and judged
in ``tasks.answers``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from rl.errors import EngineUnavailable, InvalidInput, TransientError
from rl.remote import is_remote
from tasks.carry import carry_out
from worker.app import app
from worker.child import resident

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.evaluations import Shard
    from db.jobs import Claim
    from db.tables import Checkpoint, Version
    from environments.play import Assignment, Outcome
    from rl.config import TaskSet
    from rl.held_out import LoggedSet
    from tasks.carry import Effect, Lease

JUDGE = "environment"
CONCURRENCY = 64


@app.task(name="rlfleet.evaluate")
def evaluate(job_id: int) -> str:
    """Store the verdicts of the job's shard; the answer says what became of the job."""
    return carry_out(job_id, _work, leaves=True)


def _work(claim: Claim, lease: Lease) -> Effect:
    from db import evaluations, versions
    from db.session import transaction

    task_set = _task_set(claim)
    with transaction() as session:
        version = versions.named(session, claim.inputs["version"])[0]
        checkpoint = evaluations.asked_for(session, version, claim.inputs)
    try:
        shard = _shard(claim, task_set, version, checkpoint, lease)
    except EngineUnavailable:
        # A child that lives and does not answer hangs; the next attempt, here or elsewhere, gets another.
        if not is_remote(checkpoint.uri):
            resident().kill()
        raise

    def effect(session: Session) -> dict[str, Any]:
        counts = evaluations.store(session, claim, version, checkpoint, task_set, shard)
        if counts.get("there_already"):
            _check(claim, shard, counts)
        held = {"sandbox_level": shard.sandbox_level} if shard.sandbox_level else {}
        return {"version": version.name, "split": task_set.split} | counts | held

    return effect


def _check(claim: Claim, shard: Shard, counts: dict[str, Any]) -> None:
    """Refuse to succeed without what was asked for, else the planner would wait for it for ever.

    Raises:
        TransientError: it was another prompt, or verdicts that are missing still.
        InvalidInput: the logs hold no more scenarios than before.
    """
    asked, lacking = claim.inputs.get("prompt", shard.prompt_hash), int(claim.inputs.get("missing", 0))
    if asked != shard.prompt_hash:
        remedy = f"here it is {shard.prompt_hash}: start this worker from the code that has it"
        raise TransientError(f"verdicts under the prompt {asked} were asked for, {remedy}")
    held = claim.inputs.get("held")
    if held is not None and counts["n"] + counts["missing"] <= held:
        version = claim.inputs["version"]
        remedy = (
            "the logs hold no more now that it did not learn from, and others were judged on more or on other ones; "
            f"`rlfleet reject {version} --reason TEXT` gives the version up"
        )
        raise InvalidInput("scenarios", held, remedy)
    if lacking and counts["missing"] >= lacking:
        reasons = sorted({str(one["reason"]) for one in shard.verdicts if one["right"] is None})
        raise TransientError(f"there is still no verdict on {counts['missing']} scenarios: {'; '.join(reasons)[:500]}")


def _task_set(claim: Claim) -> TaskSet | LoggedSet:
    from rl.config import TaskSet
    from rl.held_out import LoggedSet

    return (TaskSet if "environment" in claim.config else LoggedSet).model_validate(claim.config)


def _shard(
    claim: Claim, task_set: TaskSet | LoggedSet, version: Version, checkpoint: Checkpoint, lease: Lease
) -> Shard:
    """The verdicts, played or judged here; none where all are stored already."""
    from db import evaluations
    from db.evaluations import Shard
    from db.session import transaction
    from rl.held_out import LoggedSet

    if isinstance(task_set, LoggedSet):
        from tasks import answers

        return asyncio.run(answers.shard(claim, task_set, version, checkpoint, lease))
    found = Shard(JUDGE, _prompt_hash(task_set), "")
    with transaction() as session:
        if evaluations.stored(session, checkpoint, task_set, found, *_place(claim)):
            return found
    outcomes = asyncio.run(_play(claim, task_set, version.name, checkpoint, lease))
    verdicts = [_verdict(one, _place(claim)[0]) for one in outcomes]
    held = next((one.sandbox_level for one in outcomes if one.sandbox_level), None)  # one process, one level
    return Shard(found.judge, found.prompt_hash, "", verdicts, held)


def _place(claim: Claim) -> tuple[int, int]:
    """The shard's sample, and its first scenario's place in the task set."""
    return int(claim.inputs.get("sample", 0)), int(claim.inputs.get("first", 0))


def _prompt_hash(task_set: TaskSet) -> str:
    """The hash of what an environment's verdicts depend on beside the scenario and the answers."""
    import environments
    from rl.config import digest

    environment = environments.load(task_set.environment)
    tools = [list(environment.tools)] if environment.tools else []
    return digest(environment.system, environment.max_turns, environment.max_tokens, *tools)


async def _play(claim: Claim, task_set: TaskSet, version: str, checkpoint: Checkpoint, lease: Lease) -> list[Outcome]:
    import environments
    from environments.agent import ChatClient
    from environments.play import STALL_SECONDS, play_many
    from tasks.engine import name_of, serve_version

    environment = environments.load(task_set.environment)
    name = name_of(version, checkpoint.sha256)
    served = await lease.during(serve_version(name, checkpoint.uri, lease.beat))
    beat = lease.count({"stage": "evaluate", "version": version, "split": task_set.split})
    limits = (task_set.temperature, environment.max_tokens, "evaluation")
    waits = 2 * STALL_SECONDS  # a reply that does not come is an episode that stalls, not an engine that is away
    is_ours = not is_remote(checkpoint.uri)  # a service of others is not told which scenario it is
    async with ChatClient(*served, *limits, timeout_seconds=waits, names=is_ours) as chat:
        playing = play_many(environment, assignments(claim, task_set), chat, CONCURRENCY, beat)
        return await lease.during(playing)


def assignments(claim: Claim, task_set: TaskSet) -> list[Assignment]:
    """The shard's episodes: those of one sample from place ``first`` on, ``count`` of them.

    The seed of a sampled episode is made of the task set, the scenario and the sample, so that it is the same for every
    version and however the set is cut into shards.
    """
    from environments.play import Assignment
    from rl.config import digest
    from rl.records import ScenarioRef

    sample, first = _place(claim)
    count = int(claim.inputs.get("count", task_set.count - first))
    known, chosen = digest(task_set), []
    for place in range(first, min(first + count, task_set.count)):
        ref = ScenarioRef(environment=task_set.environment, split=task_set.split, seed=task_set.first_seed + place)
        seed = int(digest(known, ref.id, sample)[:8], 16) if task_set.temperature else 0
        chosen.append(Assignment(ref, f"evaluation/{claim.job_id}/{claim.fence}/{ref.id}/{sample}", seed))
    return chosen


def _verdict(outcome: Outcome, sample: int) -> dict[str, Any]:
    """The episode's row: a failed one is no verdict, and one that outgrew the context is wrong."""
    from rl.health import reason_of

    outgrown = outcome.boundary == "context"
    reasons = [reason_of(outcome.broken, outcome.truncated and not outgrown)]
    if outcome.boundary is not None:
        reasons.append(f"{outcome.boundary}: {outcome.words}")
    return {
        "scenario_id": outcome.scenario_id,
        "sample": sample,
        "right": outcome.success if outcome.boundary is None or outgrown else None,
        "rival_right": None,
        "content_hash": outcome.content_hash,
        "turns": outcome.turns,
        "type": outcome.type,
        "reason": "; ".join(one for one in reasons if one) or None,
    }
