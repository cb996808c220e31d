"""Decide: compare the candidate with the stable version on the same scenarios, and move the release pointer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.carry import carry_out
from worker.app import app

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.jobs import Claim
    from tasks.carry import Effect, Lease


@app.task(name="rlfleet.decide", time_limit=600)
def decide(job_id: int) -> str:
    """Store the decision with its evidence and, if it says so, the release; the answer says what became of it."""
    return carry_out(job_id, _work)


def _work(claim: Claim, _: Lease) -> Effect:
    def effect(session: Session) -> dict[str, Any]:
        from db.decisions import commit

        return commit(session, claim)

    return effect
