"""What keeps the fleet moving: the planner, the reconciler, and the care of a device's child."""

from __future__ import annotations

from tasks.ring import advance, ring
from tasks.settings import alert_settings
from worker.app import app
from worker.settings import settings

LOOK_SECONDS = 60
ALERT_EXPIRY_SECONDS = 30


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
    """One pass of the reconciler. Beats and the timers of several workers ring at every tick; the first one does it."""
    from db.slots import take_slot

    if not take_slot("reconcile", settings().tick_seconds):
        return "reconcile: this tick is taken"
    return reconcile_once()


def reconcile_once() -> str:
    """Take back what nobody holds any more, ask for what is missing, ring what is due. Safe in any number of copies.

    Kinds that keep dying are paused first, so that they are not rung; what a person should hear of is rung last.
    """
    from db.jobs import reap
    from db.pauses import pause_failing_kinds

    reaped = reap()
    limits = alert_settings()
    paused = pause_failing_kinds(limits.pause_dead, limits.pause_minutes)
    _look_around(limits.queue_seconds)
    rung = advance(again=True)
    _ring_alerts()
    also = f", paused {', '.join(paused)}" if paused else ""
    return f"took back {len(reaped)}, rang {len(rung)}{also}"


def _look_around(queue_seconds: float) -> None:
    """Once a minute: raise alerts for workers that fell silent and for jobs that wait too long."""
    from db import workers
    from db.slots import take_slot

    if take_slot("look-around", LOOK_SECONDS):
        workers.alert_silent()
        workers.alert_old_queues(queue_seconds, workers.capacity())


def _ring_alerts() -> None:
    from db import alerts

    if alert_settings().webhook is not None and alerts.any_due():
        app.tasks["rlfleet.alert"].apply_async(expires=ALERT_EXPIRY_SECONDS)


@app.task(name="rlfleet.tend", time_limit=300)
def tend() -> str:
    """Make sure that this device's child runs and is known; it starts again here when it died between jobs."""
    if not settings().device:
        return "this worker has no device"
    from tasks.engine import announce

    ready = announce()
    ring()
    return f"{ready.device} serves at {ready.url}"
