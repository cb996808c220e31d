"""A pod with a GPU is told to go, as the manifest says: its training goes on in another pod from what was saved."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis import Redis

from gpu.starter import build
from tests.tasks.real_worker import worker
from tests.tasks.recipes import World, train
from tests.tasks.rows import job, one
from tests.worker.doubles import wait_until

STEPS = 2000
"""Several times what is made before a worker's progress is seen: it is not over when it is told to go."""
MANIFESTS = Path(__file__).parents[2] / "docker" / "kubernetes"


def _pod() -> tuple[float, dict[str, str]]:
    """The seconds that a pod has before it is killed, and the variables that bear on its end."""
    (workload,) = (
        one for one in yaml.safe_load_all((MANIFESTS / "gpu.yaml").read_text()) if one["kind"] == "Deployment"
    )
    pod: dict[str, Any] = workload["spec"]["template"]["spec"]
    variables = yaml.safe_load((MANIFESTS / "config.yaml").read_text())["data"]
    variables |= {one["name"]: one["value"] for one in pod["containers"][0]["env"] if "value" in one}
    wanted = ("REMAP_SIGTERM", "RLFLEET_DRAIN_SECONDS")
    return float(pod["terminationGracePeriodSeconds"]), {name: variables[name] for name in wanted}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_pod_that_is_preempted_saves_its_training_and_the_next_one_goes_on(
    fresh: str, broker: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child is the real one, and trains a small model on the CPU."""
    from tasks.ring import ring
    from worker import settings

    monkeypatch.setenv("RLFLEET_ARTIFACTS", str(tmp_path / "artifacts"))
    settings.settings.cache_clear()
    base = build(["red ball ahead", "forward"] * 20, tmp_path / "base", seed=3, vocabulary=300)
    (job_id,) = train(World(base, steps=STEPS))
    grace, variables = _pod()
    shared = variables | {"RLFLEET_DEVICE": "cpu", "RLFLEET_ARTIFACTS": str(tmp_path / "artifacts")}
    first, second = tmp_path / "worker-gpu-first", tmp_path / "worker-gpu-second"
    first.mkdir()
    second.mkdir()
    broker.flushdb()
    with worker(first / "log", "gpu", name="first", **shared) as process:
        one("update rlfleet.jobs set last_sent_at = null where id = :id returning 1", id=job_id)
        ring()
        wait_until(lambda: int((job(job_id).progress or {}).get("step", 0)) >= 3, 180)
        process.send_signal(signal.SIGTERM)  # to the first process of the container alone, as a kubelet does
        assert process.wait(grace) in (0, 1)
    row = job(job_id)
    assert (row.state, row.attempt, row.interruptions, row.fence) == ("queued", 0, 1, 1)
    saved = row.resume["step"]
    assert 3 <= saved < STEPS
    with worker(second / "log", "gpu", name="second", **shared):
        ring()
        wait_until(lambda: job(job_id).state not in ("queued", "running"), 600)
    assert (job(job_id).state, job(job_id).attempt) == ("succeeded", 1), job(job_id).error
    version = one("select job_id, fence, manifest from rlfleet.versions")
    assert (version.job_id, version.fence) == (job_id, 2)
    assert version.manifest["resumed"] == {"step": saved}
