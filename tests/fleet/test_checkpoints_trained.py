"""A training with checkpoints on the way, killed between them: rows, bytes, reproduction, and what is kept on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from db import checkpoints, versions
from db.session import transaction
from fleet.folders import sha256_of
from rl.config import Lora, SftTrain
from rl.errors import InvalidInput
from tasks import carry
from tests.conftest_database import *  # noqa: F403
from tests.conftest_database import empty
from tests.conftest_redis import *  # noqa: F403
from tests.fleet.test_reproduce_trained import HOURS, SFT, Line, change, kill_child, logs, reproduced, row, starter
from worker import child as worker_child
from worker import settings as worker_settings
from worker.app import app

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FIRST, SECOND = "babylon-agent-v1.0.0", "babylon-agent-v1.0.1"


@pytest.fixture
def line(database: str, broker: Redis, tmp_path: Path) -> Iterator[Line]:
    with pytest.MonkeyPatch.context() as patch:
        variables = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RLFLEET_ARTIFACTS": str(tmp_path / "artifacts")}
        variables |= {"RLFLEET_STATE": str(tmp_path), "RLFLEET_DEVICE": "cpu", "RLFLEET_SAVE_SECONDS": "0.000001"}
        for name, value in variables.items():
            patch.setenv(name, value)
        patch.setattr(worker_child, "_resident", None)
        worker_settings.settings.cache_clear()
        with transaction() as session:
            empty(session)
        try:
            yield Line(starter(tmp_path), logs(tmp_path))
        finally:
            worker_child.resident().kill()
    worker_settings.settings.cache_clear()


@contextmanager
def killed_behind_the_first_checkpoint() -> Iterator[None]:
    """Within the block the first child whose state is handed on with a checkpoint is killed."""
    given, killed = carry.Lease.renew, list[int]()

    def renew(self: carry.Lease, progress: Mapping[str, Any] | None = None, resume: Any = None) -> None:
        given(self, progress, resume)
        if resume and "checkpoints" in resume and not killed:
            killed.append(kill_child())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(carry.Lease, "renew", renew)
        yield
    assert killed


def stored(version: str) -> list[Any]:
    with transaction() as session:
        return checkpoints.of_version(session, versions.named(session, version)[0])


def test_from_a_crash_to_the_one_that_was_chosen(line: Line, tmp_path: Path) -> None:
    with killed_behind_the_first_checkpoint():
        line.trained_on(HOURS[0], SftTrain(steps=6, lora=Lora(rank=4, alpha=8), checkpoint_every=2, **SFT))
    rows = stored(FIRST)
    assert [one.step for one in rows] == [2, 4, 6]
    fences = [Path(one.uri).parent.name for one in rows]
    assert fences == ["fence-1", "fence-2", "fence-2"], "what the lost attempt had written is not trained again"
    assert [versions_own(FIRST), rows[-1].metrics["loss"] > 0] == [6, True]

    change(f"update rlfleet.versions set checkpoint_id = {rows[1].id}")  # noqa: S608 - our own number
    found = reproduced(FIRST)
    assert (found["equal"], found["stored"]) == (True, rows[1].sha256)
    line.trained_on(HOURS[1], SftTrain(steps=2, lora=Lora(rank=4, alpha=8), **SFT))
    change("update rlfleet.versions set checkpoint_id = :id where name = :name", id=rows[0].id, name=FIRST)
    manifest = row("select manifest from rlfleet.versions where name = :name", name=SECOND).manifest
    assert (manifest["parent"], manifest["parent_step"], stored(SECOND)[0].step) == (FIRST, 4, 6)
    assert reproduced(SECOND)["equal"], "it went on from step 4, whatever is the version's own since"

    change("update rlfleet.lines set config = jsonb_set(config, '{retention}', '{\"checkpoints\": 0}')")
    assert ", 1 checkpoints, " in app.tasks["rlfleet.prune"].apply().get()
    kept = [(one.step, one.removed_at is None, Path(one.uri).exists()) for one in stored(FIRST)]
    assert kept == [(2, True, True), (4, True, True), (6, False, False)]
    assert sha256_of(Path(rows[1].uri) / "adapter_model.safetensors")
    with transaction() as session, pytest.raises(InvalidInput, match="retention removed it"):
        checkpoints.at_step(session, versions.named(session, FIRST)[0], 6)


def versions_own(name: str) -> int:
    with transaction() as session:
        return versions.named(session, name)[1].step
