"""The hash of a checkpoint from those of its files, and its place below any root."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fleet import publish
from gpu import checkpoints
from rl.checkpoint_files import digest, is_hashed, place_of


def test_all_who_compute_the_hash_agree(tmp_path: Path) -> None:
    files = {"model.safetensors": b"weights", "config.json": b"{}", "checkpoint.json": b"ours", "notes.md": b"words"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    said = "".join(f"{name}\0{hashes[name]}\n" for name in ("config.json", "model.safetensors"))
    expected = hashlib.sha256(said.encode()).hexdigest()
    assert digest(hashes) == checkpoints.digest(tmp_path) == publish.digest(tmp_path) == expected
    assert [name for name in files if is_hashed(name)] == ["model.safetensors", "config.json"]


def test_places_below_any_root() -> None:
    assert place_of("/one/root/jobs/12/fence-3/step-000004") == "jobs/12/fence-3/step-000004"
    assert place_of("/jobs/jobs/1/fence-1/step-000004/") == "jobs/1/fence-1/step-000004"
    assert [place_of(one) for one in ("/models/base", "jobs/1/fence-1", "/a/jobs/1/fence-1/state-4")] == [None] * 3
