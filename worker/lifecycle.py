"""What happens when a worker starts and stops: the device's child, timers that do not need beat, and the drain."""

from __future__ import annotations

from typing import Any

from celery.signals import (
    task_postrun,
    task_prerun,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutting_down,
)
from celery.worker import state

from worker import drain
from worker.app import app
from worker.child import resident
from worker.settings import settings
from worker.task import be_patient

TEND_SECONDS = 30.0
"""How soon an idle worker notices that its device's child has died."""


@worker_process_init.connect
def publish_patiently(**_: Any) -> None:
    """A slow broker must not keep workers from ringing; and how long a job waited is in Postgres, not in an event."""
    be_patient()
    app.conf.task_send_sent_event = False


@worker_process_init.connect
def start_child(**_: Any) -> None:
    """Start loading the device's child as soon as the pool process runs; here is its main thread."""
    if settings().device:
        resident().start()


@worker_process_shutdown.connect
def stop_child(**_: Any) -> None:
    """Let the child go with the pool process."""
    if settings().device:
        resident().stop()


@task_prerun.connect
def has_task(**_: Any) -> None:
    """The soft shutdown waits for this process."""
    drain.busy(True)


@worker_process_init.connect
@task_postrun.connect
def has_no_task(**_: Any) -> None:
    """And no longer does; a process that was killed is cleared by its successor."""
    drain.busy(False)


@worker_shutting_down.connect
def hand_back(**_: Any) -> None:
    """Begin the drain of a warm shutdown too; before a cold one ``worker.consumer`` has begun it already."""
    drain.begin()


@worker_ready.connect
def ring_by_timer(sender: Any, **_: Any) -> None:
    """Announce the device, and heal without beat: every maint worker rings the reconciler on a timer of its own."""
    queues = {queue.name for queue in sender.task_consumer.queues}
    if "gpu" in queues:
        app.send_task("rlfleet.tend", expires=60)
        sender.timer.call_repeatedly(TEND_SECONDS, tend_when_idle)
    if "maint" in queues:
        tick = settings().tick_seconds
        sender.timer.call_repeatedly(tick, app.send_task, ("rlfleet.reconcile",), {"expires": tick})


def tend_when_idle() -> None:
    """Bring the child back while no job runs; behind a long one such messages would only pile up."""
    if not state.reserved_requests:
        app.send_task("rlfleet.tend", expires=TEND_SECONDS)
