"""Collect a window: read its line's source, or play its run's scenarios through the gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.carry import carry_out
from worker.app import app

if TYPE_CHECKING:
    from db.jobs import Claim
    from tasks.carry import Effect, Lease


@app.task(name="rlfleet.collect", time_limit=3600, soft_time_limit=3500)
def collect(job_id: int) -> str:
    """Store the window's trajectories; the answer says what became of the job."""
    return carry_out(job_id, _work)


def _work(claim: Claim, lease: Lease) -> Effect:
    from tasks.gather import from_rollout, from_source

    return from_rollout(claim, lease) if "rollout" in claim.config else from_source(claim, lease)
