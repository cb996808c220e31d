"""No work at all, twice: as a bare Celery task, and as a job of ours."""

from __future__ import annotations

from typing import Any

from celery import Task

from tasks.carry import carry_out
from worker.app import app
from worker.task import FleetTask

QUEUE = "score"


class Routed(FleetTask):
    """A task that no route of the fleet knows."""

    abstract = True

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Publish to the queue whose worker is measured."""
        return super().apply_async(args, kwargs, **({"queue": QUEUE} | options))


@app.task(name="bench.noop", base=Task, shared=False)  # type: ignore[untyped-decorator]
def noop(number: int) -> None:
    """Do nothing with ``number``."""


@app.task(name="rlfleet.noop", base=Routed, shared=False)  # type: ignore[untyped-decorator]
def job(job_id: int) -> str:
    """Claim the job, do nothing, and commit that."""
    return carry_out(job_id, lambda claim, lease: lambda session: {})
