"""The two ways in which trajectories come: rows of a source, and rounds of a run that we play ourselves."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rl.errors import EngineUnavailable
from worker.settings import settings

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.jobs import Claim
    from environments.play import Assignment, Outcome
    from rl.config import Rollout
    from rl.records import Call, Quarantined, Trajectory
    from tasks.carry import Effect, Lease


def from_source(claim: Claim, lease: Lease) -> Effect:
    """Read the window's rows: good ones become trajectories, bad ones are quarantined and counted."""
    window, url = str(claim.inputs["window"]), str(claim.config["source"])
    good, bad = asyncio.run(lease.during(asyncio.to_thread(_read, url, window)))

    def effect(session: Session) -> dict[str, Any]:
        from db import calls, trajectories, windows

        row = windows.named(session, claim.line_id, window)
        elsewhere = trajectories.stored_elsewhere(session, row.id, [one.trajectory_id for one in good])
        unusable = bad + [_taken(one.trajectory_id) for one in good if one.trajectory_id in elsewhere]
        mine = [one for one in good if one.trajectory_id not in elsewhere]
        fresh = trajectories.insert_trajectories(session, claim.line_id, row.id, url, mine)
        spoken = [
            calls.NewCall.of(call, trajectory_id=one.trajectory_id, line=claim.line, agent_id=one.agent_id, place=place)
            for one in mine
            for place, call in enumerate(one.calls)
        ]
        calls.insert(session, spoken)
        bad_ones = trajectories.insert_quarantine(session, claim.line_id, row.id, unusable)
        counts = {"trajectories": len(mine), "new": fresh, "quarantined": bad_ones}
        if mine:
            windows.move(session, row.id, "collected")
        else:
            windows.move(session, row.id, "skipped", f"no usable trajectory ({len(unusable)} quarantined)")
        return counts

    return effect


def _read(url: str, window: str) -> tuple[list[Trajectory], list[Quarantined]]:
    """The window's usable rows and the others. On a thread of its own, as rows of other windows may be many."""
    import sources
    from rl.records import Trajectory
    from rl.windows import parse

    good: list[Trajectory] = []
    bad: list[Quarantined] = []
    for row in sources.connect(url).read(parse(window)):
        if not isinstance(row, Trajectory):
            bad.append(row)
        elif row.consent is False:
            bad.append(_refused(row.trajectory_id))
        else:
            good.append(row)
    return good, bad


def _refused(trajectory_id: str) -> Quarantined:
    """A row whose owner does not let it be learned from: it is counted, and nothing of what it says is kept."""
    from rl.records import Quarantined

    return Quarantined(source="consent", row=trajectory_id, field="consent", reason="its owner refused consent")


def _taken(trajectory_id: str) -> Quarantined:
    """A row whose id belongs to a trajectory of another window or line."""
    from rl.records import Quarantined

    reason = "another window or line has a trajectory of this id; ids are global, so give each agent its own prefix"
    return Quarantined(source="ids", row=trajectory_id, field="trajectory_id", reason=reason)


def from_rollout(claim: Claim, lease: Lease) -> Effect:
    """Play the round's scenarios with the version that the round before trained; the gateway records the calls."""
    from db import planning, windows
    from db.session import transaction
    from rl.config import Rollout

    window, rollout = str(claim.inputs["window"]), Rollout.model_validate(claim.config["rollout"])
    with transaction() as session:
        policy = planning.policy_of(session, windows.named(session, claim.line_id, window))
    started = datetime.now(UTC)
    outcomes = asyncio.run(_play(claim, rollout, policy, lease))

    def effect(session: Session) -> dict[str, Any]:
        from db import calls, trajectories

        row = windows.named(session, claim.line_id, window)
        spoken = calls.of_trajectories(session, [one.trajectory_id for one in outcomes])
        for one in outcomes:
            _check_captured(one, len(spoken[one.trajectory_id]))
        rows = [_trajectory(one, spoken[one.trajectory_id], policy, started) for one in outcomes]
        trajectories.insert_trajectories(session, claim.line_id, row.id, f"run:{rollout.environment}", rows)
        windows.move(session, row.id, "collected")
        rate = sum(one.success for one in outcomes) / len(outcomes)
        return {"trajectories": len(rows), "policy": policy, "success": rate}

    return effect


async def _play(claim: Claim, rollout: Rollout, policy: str, lease: Lease) -> list[Outcome]:
    import environments
    from environments.agent import ChatClient
    from environments.play import play_many

    window = str(claim.inputs["window"])
    here = settings()

    beat = lease.count({"stage": "collect", "window": window})

    async with ChatClient(
        here.gateway_url, here.gateway_key, policy, rollout.temperature, rollout.max_tokens, f"rollout-{window}"
    ) as chat:
        environment = environments.load(rollout.environment)
        playing = play_many(environment, assignments(claim, rollout), chat, rollout.concurrency, beat)
        return await lease.during(playing)


def assignments(claim: Claim, rollout: Rollout) -> list[Assignment]:
    """The round's episodes: fresh training scenarios each round, each played ``episodes`` times, seeded.

    The fence is part of a trajectory's id, so that a second attempt never mixes with what a first one left.
    """
    from environments.play import Assignment
    from rl.records import ScenarioRef
    from rl.windows import parse

    window = parse(claim.inputs["window"])
    first = rollout.first_seed + ((window.round or 1) - 1) * rollout.scenarios
    chance = random.Random(f"{window.text} {rollout.first_seed}")
    return [
        Assignment(
            ScenarioRef(environment=rollout.environment, split="train", seed=seed),
            f"{window.text}/{seed}/{sample}/fence-{claim.fence}",
            chance.randrange(2**20),
        )
        for seed in range(first, first + rollout.scenarios)
        for sample in range(rollout.episodes)
    ]


def _check_captured(outcome: Outcome, stored: int) -> None:
    """Raises ``EngineUnavailable`` when the gateway did not store every call of the episode."""
    if stored != outcome.turns:
        raise EngineUnavailable(
            f"{stored} of {outcome.turns} calls of {outcome.trajectory_id} are stored: the rounds of a run need a "
            "gateway with RLFLEET_CAPTURE=required on the same database"
        )


def _trajectory(outcome: Outcome, calls: list[Call], policy: str, started: datetime) -> Any:
    from rl.records import Trajectory

    return Trajectory(
        trajectory_id=outcome.trajectory_id,
        scenario_id=outcome.scenario_id,
        agent_id=policy,
        started_at=started,
        ended_at=datetime.now(UTC),
        reward=outcome.reward,
        calls=calls,
        metadata={"truncated": outcome.truncated, "content_hash": outcome.content_hash},
    )
