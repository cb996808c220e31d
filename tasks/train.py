"""Train: freeze a dataset, have the device's child train on it, commit one version with the fence."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from celery.exceptions import Reject

from rl.errors import DatabaseUnavailable
from rl.logs import about
from tasks.carry import carry_out, message_id
from worker.app import app
from worker.crash import crash_point

if TYPE_CHECKING:
    from db.jobs import Claim
    from tasks.carry import Effect, Lease

PATIENCE_SECONDS = 5.0
"""Between two tries to write a request down while the database is away."""


@app.task(name="rlfleet.train")
def train(job_id: int) -> str:
    """Do a training job; the answer says what became of it and which version came out."""
    return carry_out(job_id, _work, leaves=True)


# Celery acknowledges even a late-acked message when the process that has it is killed, unless it is to retry it.
@app.task(
    name="rlfleet.train_window",
    acks_late=True,
    acks_on_timeout=False,
    reject_on_worker_lost=True,
    retry_on_worker_lost=True,
    max_retries=5,
    default_retry_delay=0,
    time_limit=120,
)
def train_window(window_id: str, line: str = "main") -> str:
    """Train on one window: ``train_window.delay("2025-01-15T10:00")``, as often as you like, trains once.

    Records the job and the earlier ones that it needs, and rings. The answer, which Flower shows, names the job and
    says where it is; the answer of ``rlfleet.train`` says what became of it. The message is kept until the rows are
    written, so that neither a killed worker nor a database that is away loses it.

    Raises:
        MalformedWindow: ``window_id`` is not a window id.
        UnknownWindow: there is no such window.
        InvalidInput: there is no such line, or it does not say how to train.
    """
    from db import job_views
    from tasks.requests import request
    from tasks.ring import ring

    crash_point("before-claim", "train_window")
    try:
        job_id = request(window_id, line, message_id())
    except DatabaseUnavailable as error:
        time.sleep(PATIENCE_SECONDS)
        raise Reject(error, requeue=True) from error
    about(job=job_id, window=window_id, line=line)
    crash_point("after-commit", "train_window")
    ring()
    crash_point("before-ack", "train_window")
    return str(job_views.summary(job_id))


def _work(claim: Claim, lease: Lease) -> Effect:
    from tasks import adopting
    from tasks.training import train_on

    if adopting.KEY in claim.inputs:
        return adopting.adopt(claim, lease)
    return train_on(claim, lease)
