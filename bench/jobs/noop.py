"""No work at all, twice: as a bare Celery task, and as a job of ours."""

from __future__ import annotations

from celery import Task

from tasks.carry import carry_out
from worker.app import app

QUEUE = "score"


@app.task(name="bench.noop", base=Task)  # type: ignore[untyped-decorator]
def noop(number: int) -> None:
    """Do nothing with ``number``."""


@app.task(name="rlfleet.noop", queue=QUEUE)  # type: ignore[untyped-decorator]
def job(job_id: int) -> str:
    """Claim the job, do nothing, and commit that."""
    return carry_out(job_id, lambda claim, lease: lambda session: {})
