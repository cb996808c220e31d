"""Checkpoints in a store: there or not there, whatever is cut, killed, garbled or done twice at once."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from backends import checkpoints, manifest
from backends.store import Store
from gpu.checkpoints import base_of
from rl.errors import DiskFull, InvalidInput, StoreDamaged, StoreLacks, StoreUnavailable
from tests.backends.checkpoints_made import PART, file_store, objects, same, small_parts, store, trained
from tests.s3_server import S3, s3

__all__ = ["file_store", "s3", "small_parts", "store"]


def test_there_and_back(store: Store, tmp_path: Path) -> None:
    folder, sha256 = trained(tmp_path)
    sent: list[int] = []
    asyncio.run(checkpoints.publish(store, folder, sha256, on_sent=sent.append))
    base = f"checkpoints/{sha256}"
    weights = {f"{base}/adapter_model.safetensors.part-{n:05d}": PART for n in range(8)}
    weights[f"{base}/adapter_model.safetensors.part-00008"] = 1
    found = objects(store, sha256)
    assert found.pop(f"{base}/manifest.json") > 100
    assert found == weights | {f"{base}/adapter_config.json": 8, f"{base}/added_tokens.json": 0}
    assert sent == [0, 4, 8, 11]

    target = tmp_path / "elsewhere" / "jobs/1/fence-1/step-000004"
    assert asyncio.run(checkpoints.fetch(store, sha256, target)) is True
    assert same(folder, target)
    assert asyncio.run(checkpoints.fetch(store, sha256, target)) is False
    assert [path.name for path in target.parent.iterdir() if path != target] == [".step-000004.lock"]


def test_what_the_store_does_not_have_yet(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreLacks, match="does not have checkpoint aaaaaaaaaaaa yet"):
        asyncio.run(checkpoints.fetch(store, "a" * 64, tmp_path / "x" / "step-000004"))
    assert not (tmp_path / "x" / "step-000004").exists()


def test_a_folder_that_was_changed_is_not_published(store: Store, tmp_path: Path) -> None:
    folder, sha256 = trained(tmp_path)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(InvalidInput, match="it is not stored; put the old contents back"):
        asyncio.run(checkpoints.publish(store, folder, sha256))
    assert objects(store, sha256) == {}


@pytest.mark.parametrize("fault", ["cut", "500"])
def test_an_upload_that_breaks_in_the_middle_is_not_there_and_goes_on_later(s3: S3, tmp_path: Path, fault: str) -> None:
    folder, sha256 = trained(tmp_path)
    store, sent = Store(s3.store), [0]
    s3.befall("PUT .*part-0000[4-8]", fault)  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable):
        asyncio.run(checkpoints.publish(store, folder, sha256, on_sent=sent.append))
    with pytest.raises(StoreLacks, match="yet"):
        asyncio.run(checkpoints.fetch(store, sha256, tmp_path / "x" / "step-000004"))
    s3.heal()
    s3.requests.clear()
    asyncio.run(checkpoints.publish(store, folder, sha256, sent=sent[-1], on_sent=sent.append))
    assert sent[-1] == 11
    again = [one for one in s3.requests if one.startswith("PUT")]
    assert len(again) <= 11 - 4 + 1, "what was sent before is not sent again"
    assert "manifest.json" in again[-1]
    assert asyncio.run(checkpoints.fetch(store, sha256, tmp_path / "x" / "step-000004"))


def test_what_lies_there_is_read_and_not_sent_again(s3: S3, tmp_path: Path) -> None:
    folder, sha256 = trained(tmp_path)
    store = Store(s3.store)
    asyncio.run(checkpoints.publish(store, folder, sha256))
    s3.requests.clear()
    asyncio.run(checkpoints.publish(store, folder, sha256))
    assert [one.rpartition("/")[2] for one in s3.requests if one.startswith("PUT")] == ["manifest.json"]
    assert s3.count("GET") >= 11


def test_a_slow_store_is_waited_for_no_longer_than_is_wanted(s3: S3, tmp_path: Path) -> None:
    folder, sha256 = trained(tmp_path)
    s3.befall("PUT .*part-00005", "hold")

    async def bounded() -> None:
        async with asyncio.timeout(2):
            await checkpoints.publish(Store(s3.store), folder, sha256)

    with pytest.raises(TimeoutError):
        asyncio.run(bounded())
    s3.heal()
    asyncio.run(checkpoints.publish(Store(s3.store), folder, sha256))
    assert asyncio.run(checkpoints.fetch(Store(s3.store), sha256, tmp_path / "x" / "step-000004"))


@pytest.mark.parametrize("name", ["adapter_model.safetensors.part-00003", "adapter_config.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["garbled", "cut off", "gone"])
def test_a_damaged_copy_is_refused_by_name_and_put_right(store: Store, tmp_path: Path, name: str, damage: str) -> None:
    folder, sha256 = trained(tmp_path)
    asyncio.run(checkpoints.publish(store, folder, sha256))
    path = f"checkpoints/{sha256}/{name}"
    data = asyncio.run(store.get(path)) or b""
    if damage == "gone":
        asyncio.run(store.delete([path]))
    else:
        asyncio.run(store.put(path, data[:3] + b"!" + data[4:] if damage == "garbled" else data[:-1]))
    target = tmp_path / "x" / "step-000004"
    error, words = (StoreLacks, "yet") if (name, damage) == ("manifest.json", "gone") else (StoreDamaged, name)
    with pytest.raises(error, match=words):
        asyncio.run(checkpoints.fetch(store, sha256, target))
    assert [path.name for path in target.parent.iterdir()] == [".step-000004.lock"], "nothing of it is kept"
    asyncio.run(checkpoints.publish(store, folder, sha256))
    assert asyncio.run(checkpoints.fetch(store, sha256, target))
    assert same(folder, target)


def test_a_manifest_cannot_name_files_outside_the_folder(file_store: Store, tmp_path: Path) -> None:
    folder, sha256 = trained(tmp_path)
    asyncio.run(checkpoints.publish(file_store, folder, sha256))
    path = f"checkpoints/{sha256}/manifest.json"
    said = (asyncio.run(file_store.get(path)) or b"").replace(b'"adapter_config.json"', b'"../adapter_config.json"')
    asyncio.run(file_store.put(path, said))
    with pytest.raises(StoreDamaged, match="is not the manifest of that checkpoint"):
        asyncio.run(checkpoints.fetch(file_store, sha256, tmp_path / "x" / "step-000004"))
    assert not (tmp_path / "x" / "adapter_config.json").exists()


def test_a_file_that_is_called_as_the_manifest_is(store: Store, tmp_path: Path) -> None:
    folder, _ = trained(tmp_path)
    (folder / "manifest.json").write_text("{}")
    sha256 = asyncio.run(manifest.of_folder(folder)).sha256
    asyncio.run(checkpoints.publish(store, folder, sha256))
    target = tmp_path / "x" / "step-000004"
    assert asyncio.run(checkpoints.fetch(store, sha256, target))
    assert same(folder, target)


def test_a_file_whose_name_cannot_be_one_there_is_refused(file_store: Store, tmp_path: Path) -> None:
    folder, sha256 = trained(tmp_path)
    (folder / "a b.json").write_text("{}")
    with pytest.raises(InvalidInput, match=r"a b\.json.* letters, digits, '_', '\.' and '-' cannot be stored"):
        asyncio.run(checkpoints.publish(file_store, folder, sha256))
    assert objects(file_store, sha256) == {}


def test_a_base_that_somebody_wrote_into_the_store_is_not_believed(file_store: Store, tmp_path: Path) -> None:
    folder, _ = trained(tmp_path)
    for name in ("base", "another"):
        (tmp_path / name).mkdir()
    base, another = str(tmp_path / "base"), str(tmp_path / "another")
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    (folder / "checkpoint.json").write_text(json.dumps({"base": base}))
    sha256 = asyncio.run(manifest.of_folder(folder)).sha256
    asyncio.run(checkpoints.publish(file_store, folder, sha256))
    path = f"checkpoints/{sha256}/manifest.json"
    said = (asyncio.run(file_store.get(path)) or b"").replace(base.encode(), another.encode())
    asyncio.run(file_store.put(path, said))
    target = tmp_path / "x" / "step-000004"
    assert asyncio.run(checkpoints.fetch(file_store, sha256, target))
    assert another in (target / "checkpoint.json").read_text()
    assert base_of(target) == base


@pytest.mark.parametrize("when", ["written", "synced"])
def test_a_full_disk_is_said_and_nothing_is_left(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    folder, sha256 = trained(tmp_path)
    asyncio.run(checkpoints.publish(store, folder, sha256))
    target, opened = tmp_path / "x" / "step-000004", Path.open

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def open_on_a_full_disk(path: Path, mode: str = "r", *rest: Any) -> Any:
        return opened(Path("/dev/full") if mode == "wb" and path.suffix == ".safetensors" else path, mode, *rest)

    with monkeypatch.context() as patched:
        if when == "written":
            patched.setattr(Path, "open", open_on_a_full_disk)
        else:
            patched.setattr(checkpoints, "_sync", full)
        with pytest.raises(DiskFull, match=r"step-000004: no room for a checkpoint from .*; free some"):
            asyncio.run(checkpoints.fetch(store, sha256, target))
    assert [path.name for path in target.parent.iterdir()] == [".step-000004.lock"]
    assert asyncio.run(checkpoints.fetch(store, sha256, target))
    assert same(folder, target)
