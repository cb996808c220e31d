"""``rlfleet publish`` in a process of its own, and a checkpoint for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from sqlalchemy import update

from db.session import transaction
from db.tables import Checkpoint
from fleet.publish import digest
from tests.conftest_database import empty, released
from tests.db import trained
from tests.hub_stand_in import TOKEN, StandIn

ROOT = Path(__file__).parents[2]


def adapter(folder: Path, base: Path) -> Path:
    """A checkpoint as the trainer leaves one."""
    folder.mkdir()
    weights = np.arange(4096, dtype=np.float32).reshape(64, 64)
    save_file({"base_model.model.q_proj.lora_A.weight": weights}, folder / "adapter_model.safetensors")
    save_file({"step": np.ones(1, dtype=np.float32)}, folder / "optimizer.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"r": 4, "base_model_name_or_path": str(base)}))
    (folder / "checkpoint.json").write_text(json.dumps({"base": str(base)}))
    return folder


def ready(folder: Path) -> str:
    """The stable version of a line, all that there is: an adapter on a model of the Hub, with a checkpoint on disk."""
    with transaction() as session:
        empty(session)
        line = trained.add_line(session)
        made = trained.add_version(session, line, "2025-01-15T10:00", state="ready")
        made.manifest = {"windows": ["2025-01-15T10:00"]}
        base = folder / "hub/models--maker--base/snapshots/0a"
        there = adapter(folder / "checkpoint", base)
        session.execute(update(Checkpoint).values(uri=str(there), base_uri=str(base), sha256=digest(there)))
        session.expire_all()
        trained.evaluate(session, made, 83, 100)
        released(session, line.id, made.id)
        return made.name


def start(there: StandIn, *words: str, **variables: str) -> subprocess.Popen[str]:
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))},
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "HF_ENDPOINT": there.url,
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",
        **variables,
    }
    argv = [sys.executable, "-m", "fleet", "publish", *words]
    return subprocess.Popen(argv, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(there: StandIn, *words: str, **variables: str) -> tuple[int, str, str]:
    process = start(there, *words, **variables)
    out, err = process.communicate(timeout=240)
    assert TOKEN not in out + err
    assert "X-Amz-Signature" not in out + err
    return process.returncode, out, err


def published(there: StandIn, *words: str, **variables: str) -> dict[str, Any]:
    code, out, err = run(there, *words, "--json", **variables)
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found
