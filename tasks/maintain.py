"""What keeps the fleet moving: the planner, the reconciler, and the care of a device's child."""

from __future__ import annotations

import time

from celery.utils.log import get_task_logger

from rl.errors import DatabaseUnavailable, InvalidSettings
from tasks.prune import sweep_refused
from tasks.ring import advance, ring
from tasks.settings import AlertSettings, alert_settings
from worker.app import app
from worker.crash import crash_point
from worker.settings import settings

log = get_task_logger(__name__)

LOOK_SECONDS = 60
LOOK_AROUND = "look-around"
BEAT = ("collect", LOOK_AROUND, LOOK_SECONDS)
"""By what it is known whether a beat rings: an entry that only beat sends, and who would miss it, how often."""
ALERT_EXPIRY_SECONDS = 30
DAY_SECONDS = 86_400
STORE_SECONDS = 20
"""A device that is asked to train meanwhile waits no longer than this."""
UNWATCHED_SECONDS = 180
"""Beat's entry ``release`` rings every minute."""
TRAIN_SECONDS = (3 * 60 + 10) * 60
"""When the daily training is due, after midnight UTC: the schedule's entry ``train``."""


@app.task(name="rlfleet.plan", time_limit=120)
def plan(stage: str, period_seconds: int) -> str:
    """One tick of a stage's schedule entry: ask for what is missing, once however many beats run."""
    from db.slots import take_slot
    from tasks.again import scores_again
    from tasks.requests import daily_training

    if stage == "train":
        sweep_refused()
    # Before the slot is taken, because asking twice is harmless and a day that is not asked for is lost.
    asked = daily_training() if stage == "train" else []
    if not take_slot(stage, period_seconds):
        return f"{stage}: this tick is taken"
    crash_point("after-slot", "plan")
    if stage == "score":
        asked = scores_again()
    return f"{stage}: asked for {len(asked)}, rang {len(advance())}"


@app.task(name="rlfleet.reconcile", time_limit=60)
def reconcile() -> str:
    """One pass of the reconciler. Beats and the timers of several workers ring at every tick; the first one does it."""
    from db.slots import take_slot

    if not take_slot("reconcile", settings().tick_seconds):
        return "reconcile: this tick is taken"
    crash_point("after-slot", "reconcile")
    return reconcile_once()


def reconcile_once() -> str:
    """Take back what nobody holds any more, ask for what is missing, ring what is due. Safe in any number of copies.

    Kinds that keep dying are paused first, so that they are not rung; what a person should hear of is rung last.
    Settings of alerts that cannot be used leave out what needs them, and nothing else.
    """
    from db.dispatch import wake_decisions
    from db.jobs import reap
    from db.pauses import pause_failing_kinds

    reaped = reap()
    wake_decisions()
    limits = _limits()
    paused = pause_failing_kinds(limits.pause_dead, limits.pause_minutes) if limits else []
    _train_if_beat_did_not()
    _watch_if_beat_did_not()
    rung = advance(again=True)
    _look_around(limits.queue_seconds if limits else None)
    if limits and limits.channels:
        _ring_alerts()
    also = f", paused {', '.join(paused)}" if paused else ""
    return f"took back {len(reaped)}, rang {len(rung)}{also}"


def _limits() -> AlertSettings | None:
    try:
        return alert_settings()
    except InvalidSettings as error:
        log.error("nothing is paused, and no alert of a queue is raised or sent, until this is corrected: %s", error)
        return None


def _train_if_beat_did_not() -> None:
    """Ask for the daily training when its hour is past and no beat rang for it, so that it needs none."""
    from db.slots import is_missed, take_slot
    from tasks.requests import daily_training

    if is_missed("train", DAY_SECONDS, TRAIN_SECONDS):
        asked = daily_training()  # before the slot is taken, as in ``plan``
        take_slot("train", DAY_SECONDS)
        log.warning("no beat rang for the daily training: asked for %s jobs here", len(asked))


def _watch_if_beat_did_not() -> None:
    """Ring for a look at the canaries that are live when no beat did for a while."""
    from db import canaries, slots
    from db.session import transaction

    with transaction() as session:
        if not canaries.canaries(session):
            return
    ago = slots.age_seconds("release")
    if ago is None or ago > UNWATCHED_SECONDS:
        app.tasks["rlfleet.watch_releases"].apply_async((LOOK_SECONDS,), expires=LOOK_SECONDS)


def _look_around(queue_seconds: float | None) -> None:
    """Once a minute: raise alerts for workers and beats that fell silent, for jobs that wait too long, for canaries."""
    from db import at_service, slots, stored, watching, workers
    from db.session import transaction

    ago = slots.age_seconds(LOOK_AROUND)
    if not slots.take_slot(LOOK_AROUND, LOOK_SECONDS):
        return
    # Whoever looks around was away too, most likely with the broker: the others get a minute to say that they are back.
    if ago is None or ago <= 2 * LOOK_SECONDS:
        workers.alert_silent()
    capacities = workers.capacity()
    workers.alert_silent_beat(*BEAT, capacities)
    if queue_seconds is not None:
        workers.alert_old_queues(queue_seconds, capacities)
    with transaction() as session:
        watching.alert_unwatched(session)
        stored.alert_lacking(session)
        at_service.alert_away(session)


def _ring_alerts() -> None:
    from db import alerts

    if alerts.any_due():
        app.tasks["rlfleet.alert"].apply_async(expires=ALERT_EXPIRY_SECONDS)


@app.task(name="rlfleet.tend", time_limit=300)
def tend() -> str:
    """Make sure that this device's child runs and is known; it starts again here when it died between jobs.

    What the store lacks of the folders on this host, which may have no other worker, is sent there.
    """
    if not settings().device:
        return "this worker has no device"
    from tasks.engine import announce

    ready = announce()
    crash_point("after-announce", "tend")
    ring()
    _send_to_the_store()
    return f"{ready.device} serves at {ready.url}"


def _send_to_the_store() -> None:
    from tasks import storing

    try:
        storing.catch_up(time.monotonic() + STORE_SECONDS)
    except DatabaseUnavailable:
        raise
    except Exception:  # of any client of any store; the device serves all the same
        log.exception("checkpoints were not sent to the store; the next time tries again")
