"""Score a window: give every trajectory the number it is trained with, and keep where the number came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.carry import carry_out
from worker.app import app

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.jobs import Claim
    from tasks.carry import Effect, Lease


@app.task(name="rlfleet.score", time_limit=3600, soft_time_limit=3500)
def score(job_id: int) -> str:
    """Store the window's scores; the answer says what became of the job."""
    return carry_out(job_id, _work)


def _work(claim: Claim, _: Lease) -> Effect:
    def effect(session: Session) -> dict[str, Any]:
        from db import trajectories, windows
        from rl.scoring import by_reward

        window = windows.named(session, claim.line_id, claim.inputs["window"])
        rows = [by_reward(one.trajectory_id, one.reward) for one in trajectories.of_windows(session, [window.id])]
        added = trajectories.insert_scores(session, rows)
        if rows:  # a window that was skipped stays skipped
            windows.move(session, window.id, "scored")
        return {"scored": len(rows), "new": added}

    return effect
