"""Collect a window: read its line's source, or play its run's scenarios through the gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.carry import carry_out
from worker.app import app

if TYPE_CHECKING:
    from db.jobs import Claim
    from tasks.carry import Effect, Lease


@app.task(name="rlfleet.collect")
def collect(job_id: int) -> str:
    """Store the window's trajectories; the answer says what became of the job.

    There is no time limit: episodes that stall are given up one by one, and so is a source that is not read in time.
    """
    return carry_out(job_id, _work)


def _work(claim: Claim, lease: Lease) -> Effect:
    from tasks.gather import from_source
    from tasks.rollout import from_rollout

    return from_rollout(claim, lease) if "rollout" in claim.config else from_source(claim, lease)
