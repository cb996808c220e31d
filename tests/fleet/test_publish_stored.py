"""``rlfleet publish`` on a machine that has the checkpoint only in the store."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import update

from backends import checkpoints
from backends.store import Store
from db.session import transaction
from db.tables import Checkpoint
from fleet.publish import digest
from tests.conftest_database import *  # noqa: F403
from tests.fleet.publishing import published, ready, run
from tests.hub_stand_in import hub

REPO = "acme/agent"


def test_a_checkpoint_of_another_host_comes_from_the_store(database: str, tmp_path: Path) -> None:
    version, folder = ready(tmp_path), tmp_path / "checkpoint"
    weights, sha256 = (folder / "adapter_model.safetensors").read_bytes(), digest(folder)
    with transaction() as session:
        session.execute(update(Checkpoint).values(uri="/theirs/jobs/1/fence-1/step-000003"))
    (tmp_path / "store").mkdir()
    here = {"RLFLEET_STORE": f"file://{tmp_path}/store", "RLFLEET_ARTIFACTS": str(tmp_path / "artifacts")}
    with hub() as there:
        code, _, err = run(there, version, "--hub", REPO, RLFLEET_ARTIFACTS=str(tmp_path / "artifacts"))
        assert (code, there.asked) == (2, []), "without a store it is not to be had"
        assert "its checkpoint is not on this machine" in err
        asyncio.run(checkpoints.publish(Store(here["RLFLEET_STORE"]), folder, sha256))
        folder.rename(tmp_path / "elsewhere")
        assert published(there, version, "--hub", REPO, **here)["verified"]
        assert there.files(REPO)["adapter_model.safetensors"] == weights
