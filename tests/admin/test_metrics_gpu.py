"""How long a scrape says that the GPU was idle while a job for it was due."""

from __future__ import annotations

import httpx
import pytest

from db import jobs
from tests.admin.test_metrics import scrape, value
from tests.tasks.rows import add_line, asked, claimed, rows


def test_the_gpu_was_not_idle_before_its_job_was_handed_back(viewer: httpx.Client) -> None:
    job_id = asked(add_line(), kind="train", queue="gpu")
    rows("update rlfleet.jobs set run_at = now() - interval '1 hour' where id = :id returning 1", id=job_id)
    jobs.release(claimed(job_id), "the worker is going down")
    assert (value(scrape(viewer), "rlfleet_gpu_idle_queued_seconds") or 0) < 60


def busy_until(job_id: int, seconds: float) -> None:
    """Everything that the job did so far was ``seconds`` ago."""
    about = {"id": job_id, "ago": seconds}
    rows(
        "update rlfleet.job_events set at = now() - make_interval(secs => :ago) where job_id = :id returning 1", **about
    )
    rows(
        "update rlfleet.jobs set heartbeat_at = now() - make_interval(secs => :ago), "
        "finished_at = finished_at - make_interval(secs => :ago) where id = :id returning 1",
        **about,
    )


@pytest.mark.parametrize("how", ["handed back", "failed and put off", "silent", "requeued"])
def test_the_gpu_was_busy_with_another_job_until_lately(viewer: httpx.Client, how: str) -> None:
    waits, other = (asked(add_line(name), kind="train", queue="gpu") for name in ("main", "other"))
    rows("update rlfleet.jobs set run_at = now() - interval '1 hour' where id = :id returning 1", id=waits)
    claim = claimed(other)
    busy_until(other, 100)
    if how == "silent":
        rows("update rlfleet.jobs set lease_until = now() - interval '9 s' where id = :id returning 1", id=other)
    elif how == "handed back":
        jobs.release(claim, "the worker is going down", tomorrow=True)
    else:
        jobs.fail(claim, "Broken: a test", retry=how != "requeued")
    if how == "requeued":
        jobs.requeue(other)
    busy_until(other, 100)
    assert 100 <= (value(scrape(viewer), "rlfleet_gpu_idle_queued_seconds") or 0) < 160


@pytest.mark.parametrize("ran", [False, True])
def test_a_queued_job_that_is_cancelled_did_not_keep_the_gpu_busy(viewer: httpx.Client, ran: bool) -> None:
    waits, other = (asked(add_line(name), kind="train", queue="gpu") for name in ("main", "other"))
    rows("update rlfleet.jobs set run_at = now() - interval '1 hour' where id = :id returning 1", id=waits)
    if ran:
        jobs.release(claimed(other), "the worker is going down")
        busy_until(other, 600)
    assert jobs.cancel(other) == "cancelled"
    idle = 600 if ran else 3600
    assert idle <= (value(scrape(viewer), "rlfleet_gpu_idle_queued_seconds") or 0) < idle + 300


def test_a_running_job_that_is_cancelled_kept_the_gpu_busy(viewer: httpx.Client) -> None:
    waits, other = (asked(add_line(name), kind="train", queue="gpu") for name in ("main", "other"))
    rows("update rlfleet.jobs set run_at = now() - interval '1 hour' where id = :id returning 1", id=waits)
    claim = claimed(other)
    jobs.cancel(other)
    jobs.end_cancelled(claim)
    assert (value(scrape(viewer), "rlfleet_gpu_idle_queued_seconds") or 0) < 300
