"""A version that was left to the fleet to publish, a stand-in for the Hub, and ticks of the mirror."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from sqlalchemy import select, update

import tasks
from db import mirrors, publications, versions
from db.session import transaction
from db.tables import Checkpoint, Line
from fleet.publish import digest
from tasks import publishing
from tests.db import trained
from tests.fleet.publishing import adapter
from tests.hub_stand_in import TOKEN, StandIn, hub
from tests.tasks.mirroring import add_version, end, forget, steps
from tests.tasks.rows import one, rows

ROOT = Path(__file__).parents[2]
REPO = "acme/agent"
TARGET = f"hub:{REPO}"
FILES = {".gitattributes", "README.md", "adapter_config.json", "adapter_model.safetensors"}
PATIENCE = 120.0
REVISION = "select done_at, error, options ->> 'revision' as revision from rlfleet.mirrors where target = :at"
NONE = "nothing to copy"


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A Hub, and a worker that knows it and has nothing else to copy."""
    for name in ("RLFLEET_METRICS", "RLFLEET_STORE", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with hub() as found:
        values = {"HF_ENDPOINT": found.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "RLFLEET_SINKS": "none"}
        values |= {"RLFLEET_ARTIFACTS": str(tmp_path / "artifacts"), "RLFLEET_STATE": str(tmp_path / "state")}
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        forget()
        yield found
        while publishing._begun:
            left = publishing._begun.pop()
            left.process.kill()
            left.process.wait()
            left.close()
    forget()


@pytest.fixture
def version(there: StandIn, tmp_path: Path) -> str:
    """A version that passed, with its checkpoint, which somebody left to the fleet to publish."""
    job_id, name = add_version("ready")
    steps(tmp_path / "artifacts", job_id, 1, 3)
    end(job_id)
    folder = adapter(tmp_path / "checkpoint", tmp_path / "hub/models--maker--base/snapshots/0a")
    place = {"uri": str(folder), "base_uri": str(tmp_path / "hub/models--maker--base/snapshots/0a")}
    with transaction() as session:
        session.execute(update(Checkpoint).values(**place, sha256=digest(folder)))
    ask(name)
    return name


def add_another(folder: Path) -> str:
    """A second version of the same line, with other weights in ``folder``, which somebody left to the fleet as well."""
    base = folder.parent / "hub/models--maker--base/snapshots/0a"
    adapter(folder, base)
    save_file({"x": np.ones((3, 3), dtype=np.float32)}, folder / "adapter_model.safetensors")
    with transaction() as session:
        made = trained.add_version(session, session.scalars(select(Line)).one(), state="ready")
        session.flush()
        place = {"uri": str(folder), "base_uri": str(base), "sha256": digest(folder)}
        session.execute(update(Checkpoint).where(Checkpoint.id == made.checkpoint_id).values(**place))
        name = made.name
    ask(name)
    return name


def ask(name: str, **options: Any) -> None:
    with transaction() as session:
        found = versions.named(session, name)[0]
        wanted = {"private": False, "merged": False, "any": False, "base": None} | options
        publications.ask(session, found.id, REPO, wanted)


def until_it_ended(version: str) -> str:
    """What the tick says that finds the publication ended."""
    deadline = time.monotonic() + PATIENCE
    while (said := tasks.mirror()) == f"hub: {version} is on its way":
        assert time.monotonic() < deadline, publishing._begun
        time.sleep(0.1)
    return said


def at_once() -> None:
    rows("update rlfleet.mirrors set next_at = now() where done_at is null returning 1")


def assert_published_once(there: StandIn) -> None:
    assert len(there.repositories[REPO].commits) == 2, "one made the repository, and one has the files"
    assert set(there.files(REPO)) == FILES
    row = one(REVISION, at=TARGET)
    assert (row.done_at is not None, row.error, row.revision) == (True, None, there.repositories[REPO].commits[-1][0])
    assert mirrors.behind() == []


def ticking(**variables: str) -> subprocess.Popen[bytes]:
    """A process of its own that ticks until somebody kills it."""
    argv = [sys.executable, "-c", "import tasks, time\nwhile True:\n    tasks.mirror()\n    time.sleep(0.1)"]
    return subprocess.Popen(argv, cwd=ROOT, env=os.environ | variables)


def goes_on(version: str) -> None:
    """The next tick that finds nothing published from this host begins anew, which is the last time."""
    deadline = time.monotonic() + PATIENCE
    while (said := tasks.mirror()) == NONE:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert said == f"hub: {version} begun"
    assert until_it_ended(version) == f"hub: {version} published"
