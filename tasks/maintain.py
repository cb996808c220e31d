"""What keeps the fleet moving: the planner, the reconciler, and the care of a device's child."""

from __future__ import annotations

from tasks.ring import advance, ring
from worker.app import app
from worker.settings import settings


@app.task(name="rlfleet.plan", time_limit=120)
def plan(stage: str, period_seconds: int) -> str:
    """One tick of a stage's schedule entry: ask for what is missing, once however many beats run."""
    from db.slots import take_slot
    from tasks.requests import daily_training

    # Before the slot is taken, because asking twice is harmless and a day that is not asked for is lost.
    asked = daily_training() if stage == "train" else []
    if not take_slot(stage, period_seconds):
        return f"{stage}: this tick is taken"
    return f"{stage}: asked for {len(asked)}, rang {len(advance())}"


@app.task(name="rlfleet.reconcile", time_limit=60)
def reconcile() -> str:
    """Take back what nobody holds any more, ask for what is missing, ring what is due. Safe in any number of copies."""
    from db.jobs import reap

    reaped = reap()
    return f"took back {len(reaped)}, rang {len(advance())}"


@app.task(name="rlfleet.tend", time_limit=300)
def tend() -> str:
    """Make sure that this device's child runs and is known; it starts again here when it died between jobs."""
    if not settings().device:
        return "this worker has no device"
    from tasks.engine import announce

    ready = announce()
    ring()
    return f"{ready.device} serves at {ready.url}"
