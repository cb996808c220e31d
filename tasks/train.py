"""Train: freeze a dataset, have the device's child train on it, commit one version with the fence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.carry import carry_out
from worker.app import app

if TYPE_CHECKING:
    from db.jobs import Claim
    from tasks.carry import Effect, Lease


@app.task(name="rlfleet.train")
def train(job_id: int) -> str:
    """Do a training job; the answer says what became of it and which version came out."""
    return carry_out(job_id, _work)


@app.task(name="rlfleet.train_window")
def train_window(window_id: str, line: str = "main") -> str:
    """Train on one window: ``train_window.delay("2025-01-15T10:00")``, as often as you like, trains once.

    Records the job and the earlier ones that it needs, and does it at once when nothing is in its way. The
    answer, which Flower shows, names the job and says what became of it.

    Raises:
        MalformedWindow: ``window_id`` is not a window id.
        UnknownWindow: there is no such window.
        InvalidInput: there is no such line, or it does not say how to train.
    """
    from tasks.requests import request
    from tasks.ring import ring

    job_id = request(window_id, line)
    ring()
    return carry_out(job_id, _work)


def _work(claim: Claim, lease: Lease) -> Effect:
    from tasks.training import train_on

    return train_on(claim, lease)
