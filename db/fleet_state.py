"""The whole fleet by its rows: jobs, lines, candidates, pauses, workers, rejected messages, alerts and copies."""

from __future__ import annotations

from typing import Any

from db import alerts, job_views, mirrors, pauses, rejections, status, wanted, workers
from db.session import transaction


def read() -> dict[str, Any]:
    """The state by the rows. ``ok`` is false while a job failed or is dead, or a kind is paused."""
    counts, paused = job_views.counts(), pauses.paused()
    with transaction() as session:
        candidates = wanted.candidates(session)
    return {
        "schema": 1,
        "ok": counts["failed"] + counts["dead"] == 0 and not paused,
        "jobs": counts,
        "lines": status.lines(),
        "candidates": candidates,
        "paused": [vars(one) for one in paused],
        "workers": [vars(one) for one in workers.listing()],
        "rejections": [vars(one) for one in rejections.listing()],
        "alerts": [vars(one) for one in alerts.waiting()],
        "mirrors": [vars(one) for one in mirrors.behind()],
    }
