"""Checkpoints with folders, on hosts whose artifacts lie apart, and a server that speaks S3 for their store."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from backends import manifest
from backends.store import Store
from db import checkpoints as rows_of
from db.session import transaction
from rl.protocol import CheckpointWritten
from tasks import stored as local
from tasks.carry import Lease
from tests.db import chains
from tests.s3_server import S3, s3
from tests.tasks.rows import add_line, asked, claimed
from worker import settings as worker_settings

__all__ = ["folders", "s3"]

MINUTE = 60.0
OLD = "update rlfleet.checkpoints set removed_at = now() - interval '2 days' where id = :id"


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is on the host ``one``, and does not wait long."""
    monkeypatch.setenv("RLFLEET_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(local, "AGAIN_SECONDS", 0.2)
    monkeypatch.setattr(local, "LACKING_SECONDS", 1.0)
    manifest._known.clear()
    host(tmp_path, "one", monkeypatch)


def host(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """From now on this process is on the host of that name, with artifacts of its own."""
    root = tmp_path / name / "artifacts"
    monkeypatch.setenv("RLFLEET_ARTIFACTS", str(root))
    worker_settings.settings.cache_clear()
    return root


def folder(root: Path, job_id: int, step: int, weights: bytes = b"", base: str = "/base") -> tuple[Path, str]:
    made = root / f"jobs/{job_id}/fence-1/step-{step:06d}"
    made.mkdir(parents=True)
    (made / "adapter_model.safetensors").write_bytes(weights or b"%d/%d" % (job_id, step))
    (made / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    (made / "checkpoint.json").write_text(json.dumps({"base": base}))
    return made, asyncio.run(manifest.of_folder(made)).sha256


def trained(root: Path, *steps: int, weights: bytes = b"", line: str = "main") -> tuple[str, list[rows_of.Checkpoint]]:
    """A version of the line with folders on the host whose artifacts lie at ``root``."""
    with transaction() as session:
        version = chains.add_version(session, chains.add_line(session, line), steps, state="ready")
        found = rows_of.of_version(session, version)
        for one in found:
            made, sha256 = folder(root, one.job_id, one.step, weights)
            one.uri, one.sha256 = str(made), sha256
        return version.name, found


def noted() -> dict[int, Any]:
    with transaction() as session:
        found = session.execute(text("select ref, sent, tries, error, done_at from rlfleet.mirrors order by ref"))
        return {row.ref: row for row in found}


def change(statement: str, **values: object) -> None:
    with transaction() as session:
        session.execute(text(statement), values)


def is_there(s3: S3, sha256: str) -> bool:
    return asyncio.run(Store(s3.store).get(f"checkpoints/{sha256}/manifest.json")) is not None


def later() -> float:
    return time.monotonic() + MINUTE


def held(seconds: float = 60.0) -> Lease:
    return Lease(claimed(asked(add_line("held"), kind="train"), lease_seconds=seconds), seconds)


def written(root: Path, *steps: int) -> list[CheckpointWritten]:
    found = []
    for step in steps:
        made, sha256 = folder(root, 77, step)
        found.append(
            CheckpointWritten(job=77, fence=1, step=step, path=str(made), kind="adapter", sha256=sha256, metrics={})
        )
    return found


def is_there_once_healed(s3: S3, sha256: str) -> bool:
    s3.heal()
    return is_there(s3, sha256)
