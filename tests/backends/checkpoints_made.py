"""Folders as a training leaves them, the stores that they go to, and what lies there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends import checkpoints, manifest
from backends.store import Store

PART = 1000


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(manifest, "PART_BYTES", PART)
    manifest._known.clear()
    yield
    manifest._known.clear()


@pytest.fixture
def file_store(tmp_path: Path) -> Store:
    (tmp_path / "store").mkdir()
    return Store(f"file://{tmp_path}/store")


@pytest.fixture(params=["s3", "file"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "file":
        return request.getfixturevalue("file_store")  # type: ignore[no-any-return]
    return Store(request.getfixturevalue("s3").store)


def trained(tmp_path: Path, seed: int = 1, bytes_of_weights: int = 8 * PART + 1) -> tuple[Path, str]:
    """A folder as a training leaves it, and its hash."""
    folder = tmp_path / "trained" / f"jobs/{seed}/fence-1/step-000004"
    folder.mkdir(parents=True)
    weights = bytes((seed * place) % 251 for place in range(bytes_of_weights))
    (folder / "adapter_model.safetensors").write_bytes(weights)
    (folder / "adapter_config.json").write_text(json.dumps({"r": seed}))
    (folder / "added_tokens.json").write_bytes(b"")
    (folder / "checkpoint.json").write_text(json.dumps({"step": 4}))
    (folder / "notes.md").write_text("not part of a checkpoint")
    return folder, asyncio.run(manifest.of_folder(folder)).sha256


def same(one: Path, other: Path) -> bool:
    names = sorted(path.name for path in one.iterdir() if path.name != "notes.md")
    return names == sorted(path.name for path in other.iterdir()) and all(
        (one / name).read_bytes() == (other / name).read_bytes() for name in names
    )


def objects(store: Store, sha256: str) -> dict[str, int]:
    return asyncio.run(store.sizes(checkpoints.folder_of(sha256)))
