"""A raw Celery app as the guides recommend it: late acknowledgement on Redis, and a task that writes one row.

Its settings are read from the environment by the worker that ``bench.faults.raw`` starts, and by the sender.
"""

from __future__ import annotations

import json
import os
import signal
import time

from celery import Celery

PREFIX = "raw:"

app = Celery("raw", set_as_current=False)


def configure(redis_url: str, *, late: bool, reject: bool, visibility_seconds: int, sweep_seconds: int) -> None:
    """Point the app at a broker; ``sweep_seconds`` of 0 leaves the transport's own cadence (about 100 s)."""
    transport: dict[str, object] = {"visibility_timeout": visibility_seconds, "global_keyprefix": PREFIX}
    if sweep_seconds:
        transport |= {"unacked_restore_interval": sweep_seconds, "unacked_restore_throttle": 1}
    app.conf.update(
        broker_url=redis_url,
        broker_transport_options=transport,
        broker_connection_retry_on_startup=True,
        task_acks_late=late,
        task_reject_on_worker_lost=reject,
        worker_prefetch_multiplier=1,
        task_ignore_result=True,
        task_publish_retry=False,
        worker_hijack_root_logger=False,
    )


if "RLFLEET_RAW" in os.environ:
    configure(os.environ["REDIS_URL"], **json.loads(os.environ["RLFLEET_RAW"]))


@app.task(name="raw.work", shared=False)  # type: ignore[untyped-decorator]
def work(job: int, seconds: float, poison: bool = False) -> None:
    """Say that the job started, work in slices, and write its effect; ``poison`` kills the process instead."""
    _insert("starts", job)
    if poison:
        os.kill(os.getpid(), signal.SIGKILL)
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(left, 0.1))
    _insert("effects", job)


def _insert(table: str, job: int) -> None:
    import psycopg2

    connection = psycopg2.connect("postgresql://" + os.environ["DATABASE_URL"].split("://", 1)[1], connect_timeout=5)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(f"insert into raw.{table} (job, pid) values (%s, %s)", (job, os.getpid()))  # noqa: S608
    finally:
        connection.close()
