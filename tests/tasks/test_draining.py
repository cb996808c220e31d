"""A worker that is told to stop in the middle of a training: the next one goes on where it stopped."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from redis import Redis

from tests.tasks.real_worker import worker
from tests.tasks.recipes import World, train
from tests.tasks.rows import job, one
from tests.worker.doubles import wait_until

DRAIN_SECONDS = 60.0
"""Far more than it takes: nothing waits for its end."""


def step(job_id: int) -> int:
    return int((job(job_id).progress or {}).get("step", 0))


@pytest.mark.slow
def test_the_state_is_saved_the_attempt_is_free_and_the_next_worker_goes_on(
    fresh: str, broker: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.ring import ring
    from worker import settings

    monkeypatch.setenv("RLFLEET_ARTIFACTS", str(tmp_path / "artifacts"))
    (job_id,) = train(World(tmp_path, steps=600))  # a minute: it is not over before it is told to stop
    settings.settings.cache_clear()
    gpu = {
        "RLFLEET_ENV": "test",
        "RLFLEET_CHILD": "bench.faults.child",
        "RLFLEET_DEVICE": "cpu",
        "RLFLEET_DRAIN_SECONDS": str(DRAIN_SECONDS),
        "RLFLEET_JOURNAL": str(tmp_path / "journal"),
        "RLFLEET_STEP_SECONDS": "0.1",
    }
    broker.flushdb()
    with worker(tmp_path / "first.log", "gpu", name="first", **gpu) as process:
        one("update rlfleet.jobs set last_sent_at = null where state = 'queued' returning 1")
        ring()
        wait_until(lambda: step(job_id) >= 3, 120)
        process.send_signal(signal.SIGTERM)
        told = time.monotonic()
        assert process.wait(DRAIN_SECONDS) in (0, 1)
        assert time.monotonic() - told < DRAIN_SECONDS / 2
    row = job(job_id)
    assert (row.state, row.attempt, row.interruptions, row.fence) == ("queued", 0, 1, 1)
    saved = row.resume["step"]
    assert Path(row.resume["path"]).is_dir()
    with worker(tmp_path / "second.log", "gpu", name="second", **gpu | {"RLFLEET_STEP_SECONDS": "0.001"}):
        ring()
        wait_until(lambda: job(job_id).state == "succeeded", 120)
    version = one("select job_id, fence, manifest from rlfleet.versions")
    assert (version.job_id, version.fence, job(job_id).attempt) == (job_id, 2, 1)
    assert version.manifest["resumed"] == {"step": saved}
