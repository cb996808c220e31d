"""Rounds of a run, played by ourselves: a job plays a shard, stores it meanwhile, and can be gone on with."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any

from rl.errors import Drained, TransientError
from tasks.shard import Shard, episode_of
from worker.settings import settings

if TYPE_CHECKING:
    from db.jobs import Claim
    from environments.contract import Environment
    from environments.play import Assignment, Outcome
    from rl.config import Rollout
    from tasks.carry import Effect, Lease

STORE_SECONDS = 5.0
"""How often what was played is stored: at most so much is played again after a crash."""
PATIENCE_SECONDS, OUTAGE_SECONDS = 120.0, 120.0
"""How long an engine that is full, or away, is asked again: at most half of the time after which an episode stalls, so
that no episode is given up for an engine that is away."""


def from_rollout(claim: Claim, lease: Lease) -> Effect:
    """Play the shard's missing episodes with the version that the round before trained; the gateway records the calls.

    Where that version was rejected meanwhile, or the run is over, the round is given up.

    Raises:
        EngineUnavailable: the engine is away, or the gateway does not store calls.
        PermanentError: the version is what the run began at, and was rejected.
        TransientError: more than half of the shard's episodes failed.
    """
    import environments
    from db import planning, rounds, windows
    from db.session import transaction
    from rl.config import Rollout

    lease.leaves = True  # what was played is stored, and another attempt plays the rest
    rollout = Rollout.model_validate(claim.config["rollout"])
    environment = environments.load(rollout.environment)
    with transaction() as session:
        window = windows.named(session, claim.line_id, str(claim.inputs["window"]))
        policy = planning.policy_of(session, window)
        known = {episode_of(one.trajectory_id) for one in rounds.played(session, window)}
        shard = Shard(claim, policy, rollout, assignments(claim, rollout, environment), known)
        is_over, lost = window.state not in rounds.PLAYABLE, rounds.lost_player(session, window)
        if shard.missing and not is_over and lost is not None:
            rounds.check_base(session, window, lost)
        is_over = is_over or lost is not None or rounds.run_over(session, window) is not None
    if shard.missing and is_over:
        return shard.leave
    try:
        asyncio.run(_play(shard, environment, lease))
        shard.store()
    except (Drained, TransientError):
        shard.store_last()
        raise
    finally:
        lease.gets_on = shard.stored > 0
    return shard.effect


async def _play(shard: Shard, environment: Environment, lease: Lease) -> None:
    """Play what is missing, and store it meanwhile."""
    from environments.play import play_many

    began, rollout = time.monotonic(), shard.rollout

    def on_done(outcome: Outcome, done: int, _: int) -> None:
        shard.take(outcome)
        lease.beat(_progress(shard, done, time.monotonic() - began))

    async with _client(rollout, environment, shard.policy, shard.window) as chat:
        concurrency, stall = rollout.concurrency, rollout.stall_seconds
        playing = asyncio.ensure_future(
            play_many(environment, shard.missing, chat, concurrency, on_done, stall_seconds=stall)
        )
        try:
            while not (await lease.during(asyncio.wait({playing}, timeout=STORE_SECONDS)))[0]:
                await lease.during(asyncio.to_thread(shard.store))
            await playing
        finally:
            playing.cancel()
            await asyncio.wait({playing})


def _progress(shard: Shard, done: int, seconds: float) -> dict[str, Any]:
    return {
        "stage": "collect",
        "window": shard.window,
        "done": len(shard.known) + done,
        "total": len(shard.assignments),
        "per_second": round(done / max(seconds, 1e-9), 1),
        "failed": len(shard.failures),
    }


def _client(rollout: Rollout, environment: Environment, policy: str, window: str) -> Any:
    from environments.agent import ChatClient

    here, stall = settings(), rollout.stall_seconds
    tokens = rollout.max_tokens or environment.max_tokens
    return ChatClient(
        here.gateway_url,
        here.gateway_key,
        policy,
        rollout.temperature,
        tokens,
        f"rollout-{window}",
        patience_seconds=min(PATIENCE_SECONDS, stall / 2),
        outage_seconds=min(OUTAGE_SECONDS, stall / 2),
        timeout_seconds=2 * stall,  # a reply that does not come is a stall
    )


def assignments(claim: Claim, rollout: Rollout, environment: Environment) -> list[Assignment]:
    """The shard's episodes: fresh training scenarios each round, each played ``episodes`` times, seeded.

    They are the same however the round is cut. Where the environment, or a member of a mix, has only so many scenarios,
    its seeds begin anew at 0 after the last one. The fence is part of a trajectory's id, so that a second attempt never
    mixes with what a first one left.
    """
    from environments.fitting import train_seeds
    from environments.play import Assignment
    from rl.records import ScenarioRef
    from rl.windows import parse

    window = parse(claim.inputs["window"])
    start = rollout.first_seed + ((window.round or 1) - 1) * rollout.scenarios
    first = start + int(claim.inputs.get("first", 0))
    count = int(claim.inputs.get("count", rollout.scenarios))
    seed_of = train_seeds(environment)
    chance = random.Random(f"{window.text} {rollout.first_seed}")
    whole = [
        (number, sample, chance.randrange(2**20))
        for number in range(start, start + rollout.scenarios)
        for sample in range(rollout.episodes)
    ]
    return [
        Assignment(
            ScenarioRef(environment=rollout.environment, split="train", seed=seed_of(number)),
            f"{window.text}/{number}/{sample}/fence-{claim.fence}",
            seed,
        )
        for number, sample, seed in whole
        if first <= number < first + count
    ]
