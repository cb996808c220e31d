"""Score a window: give every trajectory the number it is trained with, and keep where the number came from."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from rl.errors import EngineUnavailable, InvalidSettings, Tomorrow
from tasks.carry import carry_out
from worker.app import app

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.jobs import Claim
    from rl.records import Trajectory
    from rl.scoring import NoScore, ScoreRow
    from rl.scoring_config import Scoring
    from tasks.carry import Effect, Lease


@app.task(name="rlfleet.score", time_limit=3600, soft_time_limit=3500)
def score(job_id: int) -> str:
    """Store the window's scores; the answer says what became of the job."""
    return carry_out(job_id, _work)


def _work(claim: Claim, lease: Lease) -> Effect:
    from db import episodes, feedback, late, windows
    from db.session import transaction
    from rl.late import heeds
    from rl.scoring import ScoreRow
    from rl.scoring_config import Scoring

    config = Scoring.model_validate(claim.config.get("scoring", {}))
    with transaction() as session:
        window = windows.named(session, claim.line_id, claim.inputs["window"])
        # First of all, so that what becomes known during this look is seen as not heeded.
        known = late.known(session, window.id, heeds(config))
        found = episodes.of_window(session, window.id)
        given = feedback.newest(session, [one.trajectory_id for one in found])
    results = _scored(claim, lease, found, config, given)
    rows = [one.row() for one in results if isinstance(one, ScoreRow)]
    without = [one for one in results if not isinstance(one, ScoreRow)]
    _check_final(claim, len(rows), without)

    def effect(session: Session) -> dict[str, Any]:
        from db import trajectories

        present = windows.locked(session, claim.line_id, window.name)
        # A job that looked later and ended first has scored with more than this one knew: its rows stay the newest.
        if present.state != "collected" and known != present.known == late.known(session, window.id, heeds(config)):
            return {"scored": 0, "new": 0, "overtaken": True}
        added = trajectories.insert_scores(session, rows)
        if found:  # a window that was skipped stays skipped
            windows.scored(session, window.id, window.again, known)
        reasons = Counter(one.reason for one in without)
        return {"scored": len(rows), "new": added} | ({"without": dict(reasons)} if reasons else {})

    return effect


def _check_final(claim: Claim, scored: int, without: list[NoScore]) -> None:
    """Make sure that asking again would not give those a score that have none; what a judge said is kept meanwhile.

    What fails again and again is given up with the last attempt, unless nothing has a score.

    Raises:
        InvalidSettings: the judge turns everything down until a person mends something.
        Tomorrow: the judge's budget of the day is spent.
        EngineUnavailable: there may be a score in a moment.
    """
    by_chance = {one.chance: one.reason for one in without}
    lacking = f"{len(without)} of {scored + len(without)} trajectories of {claim.inputs['window']} have no score"
    if (reason := by_chance.get("mended") or (None if scored else by_chance.get("other"))) is not None:
        remedy = f"{reason}; mend it, start the score workers again, then `rlfleet jobs requeue {claim.job_id}`"
        raise InvalidSettings("scoring.judge", claim.config["scoring"]["judge"]["model"], f"{lacking}: {remedy}")
    transient = [one.reason for one in without if one.transient]
    # A budget may only look spent: what others have set aside comes back when they know what a call did cost.
    if transient and (claim.attempt < claim.max_attempts or (not scored and "tomorrow" not in by_chance)):
        raise EngineUnavailable(f"{lacking}: {transient[0]}")
    if (reason := by_chance.get("tomorrow")) is not None:
        raise Tomorrow(f"{lacking}: {reason}")


def _scored(
    claim: Claim, lease: Lease, found: list[Trajectory], config: Scoring, given: dict[str, dict[str, float]]
) -> list[ScoreRow | NoScore]:
    """A row, or the reason for none, of every trajectory."""
    from db import judgements, redacting
    from db.session import transaction
    from rl.late import RATING
    from rl.scoring import scores
    from tasks.judge import judge

    if not config.is_judged:
        ratings = {name: values[RATING] for name, values in given.items() if RATING in values}
        return scores(found, config, ratings)
    groups: dict[str, list[Trajectory]] = defaultdict(list)
    for one in found:
        groups[one.scenario_id].append(one)
    beat = lease.count({"stage": "score", "window": claim.inputs["window"]})
    with transaction() as session:
        redaction = redacting.of_line(session, claim.line_id)
    judging = judge(list(groups.values()), config, judgements, beat, redaction=redaction)
    return asyncio.run(lease.during(judging))
