"""What happens when a worker starts and stops: the device's child, and a timer that does not need beat."""

from __future__ import annotations

from typing import Any

from celery.signals import worker_process_init, worker_process_shutdown, worker_ready

from worker.app import app
from worker.child import resident
from worker.settings import settings


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


@worker_ready.connect
def ring_at_start(sender: Any, **_: Any) -> None:
    """Announce the device, and heal without beat: every maint worker rings the reconciler on a timer of its own."""
    queues = {queue.name for queue in sender.task_consumer.queues}
    if "gpu" in queues:
        app.send_task("rlfleet.tend", expires=60)
    if "maint" in queues:
        tick = settings().tick_seconds
        sender.timer.call_repeatedly(tick, app.send_task, ("rlfleet.reconcile",), {"expires": tick})
