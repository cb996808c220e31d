"""A worker says that it is there: from its event loop, so that a loop that hangs shows as a row that ages.

The row is what ``db.workers.capacity`` adds up, and what ``rlfleet status`` shows; it is removed when the worker ends.
"""

from __future__ import annotations

import atexit
import importlib
import os
import pkgutil
from typing import Any

from celery.signals import worker_init, worker_ready, worker_shutting_down
from celery.utils.log import get_logger

from rl.errors import DatabaseUnavailable, InvalidSettings
from tasks import rejections
from tasks.settings import alert_settings
from worker.settings import settings
from worker.signals import going_down

log = get_logger(__name__)

PERIOD_SECONDS = 15.0

_present: dict[str, int] = {}
"""The worker of this process, once it is ready and until it stops, and the process that it is."""
_reporting: set[str] = set()
"""The worker whose row is being written at this moment."""
_leaving: set[str] = set()
"""The worker that was told to stop at such a moment."""


@worker_init.connect
def check_settings(**_: Any) -> None:
    """Refuse to start with settings of alerts that cannot be used.

    Raises:
        SystemExit: a variable is wrong; of any other exception Celery would only log that a receiver raised it.
    """
    try:
        alert_settings()
    except InvalidSettings as error:
        raise SystemExit(f"this worker does not start: {error}") from None


@worker_init.connect
def preload(**_: Any) -> None:
    """Load what every job needs before the pool is forked: each replaced pool process would load it anew."""
    import db

    for module in pkgutil.iter_modules(db.__path__, "db."):
        if not module.ispkg and module.name not in ("db.backup", "db.migrate"):
            importlib.import_module(module.name)
    for name in ("rl.planner", "rl.scoring", "tasks.gather", "tasks.requests", "tasks.rollout", "tasks.shard"):
        importlib.import_module(name)


@worker_ready.connect
def begin(sender: Any, **_: Any) -> None:
    """Announce this worker now and every ``PERIOD_SECONDS``, and take the row away at its end."""
    _present[sender.hostname] = os.getpid()
    report(sender)
    sender.timer.call_repeatedly(PERIOD_SECONDS, report, (sender,))
    atexit.register(end)  # where no signal says that it ends


def report(consumer: Any) -> None:
    """Write the worker's row, and what it rejected meanwhile; a database that is away is tried again next time."""
    from db import session, workers

    if consumer.hostname not in _present or consumer.task_consumer is None:  # it stops, or is reconnecting
        return
    queues = sorted(queue.name for queue in consumer.task_consumer.queues)
    _reporting.add(consumer.hostname)
    try:
        workers.announce(consumer.hostname, queues, consumer.pool.num_processes, settings().device, os.getpid())
        rejections.flush()
    except DatabaseUnavailable as error:
        log.warning("this worker could not say that it is there: %s", error)
    finally:
        session.dispose()  # pool processes are forked from this one, and must not inherit a connection
        _reporting.clear()
        if _leaving:
            end()


@going_down.connect
@worker_shutting_down.connect
def end(**_: Any) -> None:
    """Remove the worker's row, in the process that wrote it alone; the second time does nothing.

    A signal can interrupt ``report`` in its transaction, whose row could not be removed before that one ends: then
    ``report`` goes on, and ends with this.
    """
    from db import session, workers

    if _reporting:
        _leaving.update(_reporting)
        return
    _leaving.clear()
    while _present:
        name, pid = _present.popitem()
        if pid != os.getpid():
            return
        try:
            rejections.flush()
            workers.remove(name, pid)
        except DatabaseUnavailable as error:
            log.warning("this worker could not say good-bye: %s", error)
        finally:
            session.dispose()
