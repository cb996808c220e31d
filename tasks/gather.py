"""The two ways in which trajectories come: rows of a source, and rounds of a run that we play ourselves."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rl.errors import EngineUnavailable
from worker.settings import settings

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.jobs import Claim
    from environments.play import Assignment, Outcome
    from rl.config import Rollout
    from rl.errors import InvalidRow
    from rl.records import Call, Quarantined, Trajectory
    from rl.redaction import Redaction
    from tasks.carry import Effect, Lease


REFUSED = "consent"
"""The source of quarantined rows that nobody lets be learned from."""


def from_source(claim: Claim, lease: Lease) -> Effect:
    """Read the window's rows: good ones become trajectories, bad ones are quarantined and counted.

    A window that was read before gets what is new, where its line takes rows that come late, and what became known of
    its trajectories since. What is stored is never changed.
    """
    window, url = str(claim.inputs["window"]), str(claim.config["source"])
    good, bad, found, held = asyncio.run(lease.during(asyncio.to_thread(_read, url, window, _redaction(claim))))

    def effect(session: Session) -> dict[str, Any]:
        from db import late, lines, trajectories, windows, withdrawals

        row = windows.locked(session, claim.line_id, window)
        is_first = row.state in ("open", "closed")
        takes = is_first or late.takes(session, row, lines.config_of(lines.named(session, claim.line)).late)
        withdrawals.refuse(session, claim.line_id, claim.line, [one.row for one in bad if one.source == REFUSED])
        refused = withdrawals.refused(session, [one.trajectory_id for one in good])
        willing = [one for one in good if one.trajectory_id not in refused]
        known = trajectories.known(session, [one.trajectory_id for one in willing])
        elsewhere = {name for name, one in known.items() if one.window_id != row.id}
        unusable = bad + [_taken(one.trajectory_id) for one in willing if one.trajectory_id in elsewhere]
        unusable += [_refused(one) for one in sorted(refused)]
        mine = [one for one in willing if one.trajectory_id not in elsewhere and (takes or one.trajectory_id in known)]
        fresh = trajectories.insert_trajectories(session, claim.line_id, row.id, url, mine)
        _insert_calls(session, claim, [one for one in mine if one.trajectory_id not in known])
        bad_ones = trajectories.insert_quarantine(session, claim.line_id, row.id, unusable)
        if takes:
            windows.note_rows(session, row.id, max(held, claim.inputs.get("rows", 0)))
        if is_first and mine:
            windows.move(session, row.id, "collected")
        elif is_first:
            windows.move(session, row.id, "skipped", f"no usable trajectory ({len(unusable)} quarantined)")
        elif fresh:
            windows.reopen(session, row.id, f"{fresh} row{'' if fresh == 1 else 's'} came late")
        counts = {"trajectories": len(mine), "new": fresh, "quarantined": bad_ones}
        return counts | ({"redacted": dict(found)} if found else {})

    return effect


def _insert_calls(session: Session, claim: Claim, fresh: list[Trajectory]) -> None:
    """The calls of trajectories that were not stored before; of two with one id the first counts."""
    from db import calls

    first = {one.trajectory_id: one for one in reversed(fresh)}
    spoken = [
        calls.NewCall.of(call, trajectory_id=one.trajectory_id, line=claim.line, agent_id=one.agent_id, place=place)
        for one in first.values()
        for place, call in enumerate(one.calls)
    ]
    calls.insert(session, spoken)


def _redaction(claim: Claim) -> Redaction:
    """What the line takes out at the moment, whatever it was when the job was asked for."""
    from db import redacting
    from db.session import transaction

    with transaction() as session:
        return redacting.of_line(session, claim.line_id)


def _read(url: str, window: str, redaction: Redaction) -> tuple[list[Trajectory], list[Quarantined], Counter[str], int]:
    """The window's usable rows, the others, how often something was taken out of the usable ones, and all its rows.

    Of rows that a source reports with every window nobody knows whose they are: they are not among all its rows.
    On a thread of its own, as rows of other windows may be many.
    """
    import sources
    from db.redacting import clean, unused
    from rl.errors import InvalidRow
    from rl.records import Trajectory
    from rl.windows import parse

    good: list[Trajectory] = []
    bad: list[Quarantined] = []
    found: Counter[str] = Counter()
    held, is_placing = 0, urlsplit(url).scheme in sources.PLACING
    for row in sources.connect(url).read(parse(window)):
        held += is_placing or isinstance(row, Trajectory)
        if not isinstance(row, Trajectory):
            bad.append(unused(row, redaction))
        elif row.consent is False:
            bad.append(_refused(row.trajectory_id))
        else:
            try:
                cleaned, counts = clean(row, redaction)
            except InvalidRow as error:
                bad.append(_withheld(row.trajectory_id, error))
                continue
            found += counts
            good.append(cleaned)
    return good, bad, found, held


def _refused(trajectory_id: str) -> Quarantined:
    """A row whose owner does not let it be learned from: it is counted, and nothing of what it says is kept."""
    from rl.records import Quarantined

    return Quarantined(source=REFUSED, row=trajectory_id, field="consent", reason="its owner refused consent")


def _withheld(trajectory_id: str, error: InvalidRow) -> Quarantined:
    """A row that the line's redaction does not let be stored."""
    from rl.records import Quarantined

    return Quarantined(source="redaction", row=trajectory_id, field=error.field, reason=error.remedy)


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
            "gateway with RLFLEET_CAPTURE=spooled or required on the same database"
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
