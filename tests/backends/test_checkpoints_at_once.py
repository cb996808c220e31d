"""Checkpoints in a store while others are killed, fetch, publish or remove the same."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backends import checkpoints
from backends.store import Store
from rl.errors import StoreLacks, StoreUnavailable
from tests.backends.checkpoints_made import file_store, objects, same, small_parts, store, trained
from tests.s3_server import S3, s3

__all__ = ["file_store", "s3", "small_parts", "store"]

ROOT = Path(__file__).parents[2]
LATER = datetime.now(UTC) + timedelta(days=1)

PROCESS = """
import asyncio, sys
from pathlib import Path
from backends import checkpoints, manifest
from backends.store import Store
manifest.PART_BYTES = 1000
what, url, sha256, folder = sys.argv[1:]
work = checkpoints.publish if what == "publish" else checkpoints.fetch
asyncio.run(work(Store(url), Path(folder), sha256) if what == "publish" else work(Store(url), sha256, Path(folder)))
"""


def process(what: str, url: str, sha256: str, folder: Path) -> subprocess.Popen[bytes]:
    environ = dict(os.environ) | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", PROCESS, what, url, sha256, str(folder)], env=environ)


def test_killed_in_the_middle_of_publishing(s3: S3, tmp_path: Path) -> None:
    folder, sha256 = trained(tmp_path)
    s3.befall("PUT .*part-00005", "hold")
    with process("publish", s3.store, sha256, folder) as one:
        assert s3.held.wait(60)
        one.send_signal(signal.SIGKILL)
    s3.heal()
    store = Store(s3.store)
    assert asyncio.run(store.get(f"checkpoints/{sha256}/manifest.json")) is None
    asyncio.run(checkpoints.publish(store, folder, sha256))
    assert asyncio.run(checkpoints.fetch(store, sha256, tmp_path / "x" / "step-000004"))


def test_killed_in_the_middle_of_fetching(s3: S3, tmp_path: Path) -> None:
    folder, sha256 = trained(tmp_path)
    asyncio.run(checkpoints.publish(Store(s3.store), folder, sha256))
    s3.befall("GET .*part-00007", "hold")
    target = tmp_path / "x" / "step-000004"
    with process("fetch", s3.store, sha256, target) as one:
        assert s3.held.wait(60)
        one.send_signal(signal.SIGKILL)
    s3.heal()
    assert not target.exists()
    assert (target.parent / ".step-000004.fetched.writing").is_dir()
    assert asyncio.run(checkpoints.fetch(Store(s3.store), sha256, target))
    assert same(folder, target)
    assert sorted(path.name for path in target.parent.iterdir()) == [".step-000004.lock", "step-000004"]


def test_a_fetch_that_was_cancelled_gives_no_folder_its_name(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, sha256 = trained(tmp_path)
    store, target = Store(s3.store), tmp_path / "x" / "step-000004"
    syncing, go_on, ended, to_thread = threading.Event(), threading.Event(), threading.Event(), asyncio.to_thread

    def slowly(*paths: Path) -> None:
        syncing.set()
        assert go_on.wait(60)
        checkpoints._sync(*paths)

    async def watched(function: Callable[..., Any], *given: Any) -> Any:
        """The first that has files on disk is slow, and what its thread does then is waited for."""
        if function is not checkpoints._sync or syncing.is_set():
            return await to_thread(function, *given)

        def work() -> None:
            try:
                slowly(*given)
            finally:
                ended.set()

        return await to_thread(work)

    async def story() -> None:
        await checkpoints.publish(store, folder, sha256)
        monkeypatch.setattr(asyncio, "to_thread", watched)
        first = asyncio.create_task(checkpoints.fetch(store, sha256, target))
        assert await asyncio.to_thread(syncing.wait, 60)
        first.cancel()
        await asyncio.wait({first})
        s3.befall("GET .*part-00007", "hold")
        second = asyncio.create_task(checkpoints.fetch(store, sha256, target))
        assert await asyncio.to_thread(s3.held.wait, 60), "the lock is free"
        go_on.set()
        assert await to_thread(ended.wait, 60)
        assert not target.exists(), "half of it has no name"
        s3.heal()
        assert await second

    asyncio.run(story())
    assert same(folder, target)


def test_several_that_fetch_at_once_do_it_once(s3: S3, tmp_path: Path) -> None:
    folder, sha256 = trained(tmp_path)
    asyncio.run(checkpoints.publish(Store(s3.store), folder, sha256))
    target = tmp_path / "x" / "step-000004"
    s3.requests.clear()
    running = [process("fetch", s3.store, sha256, target) for _ in range(3)]
    assert [one.wait(120) for one in running] == [0, 0, 0]
    assert same(folder, target)
    assert sum("manifest.json" in one for one in s3.requests) == 1


def test_two_that_publish_equal_contents_at_once(store: Store, tmp_path: Path) -> None:
    folder, sha256 = trained(tmp_path)
    running = [process("publish", store.url, sha256, folder) for _ in range(2)]
    assert [one.wait(120) for one in running] == [0, 0]
    assert asyncio.run(checkpoints.fetch(store, sha256, tmp_path / "x" / "step-000004"))


def test_what_is_removed_is_gone_with_what_a_killed_writer_left(store: Store, tmp_path: Path) -> None:
    folder, sha256 = trained(tmp_path)
    other, kept = trained(tmp_path, seed=2)
    for path, name in ((folder, sha256), (other, kept)):
        asyncio.run(checkpoints.publish(store, path, name))
    if store.scheme == "file":
        (tmp_path / "store" / "checkpoints" / sha256 / "adapter_config.json#1").write_text("half of")
    assert asyncio.run(checkpoints.remove(store, sha256, LATER)) is True
    assert objects(store, sha256) == {}
    if store.scheme == "file":
        assert not (tmp_path / "store" / "checkpoints" / sha256).exists()
    assert asyncio.run(checkpoints.remove(store, sha256, LATER)) is True, "a second time there is nothing to do"
    assert asyncio.run(checkpoints.fetch(store, kept, tmp_path / "x" / "step-000004"))


def test_what_was_published_just_now_is_not_removed(store: Store, tmp_path: Path) -> None:
    folder, sha256 = trained(tmp_path)
    asyncio.run(checkpoints.publish(store, folder, sha256))
    assert asyncio.run(checkpoints.remove(store, sha256, datetime.now(UTC) - timedelta(hours=1))) is False
    assert asyncio.run(checkpoints.fetch(store, sha256, tmp_path / "x" / "step-000004"))


def test_a_removal_goes_by_the_manifest_and_one_that_was_killed_is_ended(s3: S3, tmp_path: Path) -> None:
    folder, sha256 = trained(tmp_path)
    store = Store(s3.store)
    asyncio.run(checkpoints.publish(store, folder, sha256))
    s3.befall("GET", "500")  # the listing of what else is there
    with pytest.raises(StoreUnavailable):
        asyncio.run(checkpoints.remove(store, sha256, LATER))
    s3.heal()
    with pytest.raises(StoreLacks, match="yet"):
        asyncio.run(checkpoints.fetch(store, sha256, tmp_path / "x" / "step-000004"))
    assert asyncio.run(checkpoints.remove(store, sha256, LATER)) is True
    assert objects(store, sha256) == {}


def test_what_somebody_removes_while_equal_contents_are_published_is_sent_again(s3: S3, tmp_path: Path) -> None:
    folder, sha256 = trained(tmp_path)
    store = Store(s3.store)
    asyncio.run(checkpoints.publish(store, folder, sha256))
    s3.befall("PUT .*manifest.json", "hold", times=1)

    async def both() -> None:
        publishing = asyncio.create_task(checkpoints.publish(store, folder, sha256))
        assert await asyncio.to_thread(s3.held.wait, 60)
        assert await checkpoints.remove(store, sha256, LATER)
        s3.released.set()
        await publishing

    asyncio.run(both())
    assert asyncio.run(checkpoints.fetch(store, sha256, tmp_path / "x" / "step-000004"))


def test_a_manifest_that_somebody_removes_while_it_is_looked_for_is_sent_again(s3: S3, tmp_path: Path) -> None:
    folder, sha256 = trained(tmp_path)
    store = Store(s3.store)

    def remove(count: int) -> None:
        if count == 11:  # all parts are there
            s3.befall(f"GET /{s3.bucket}$", "hold", times=1)

    async def both() -> None:
        publishing = asyncio.create_task(checkpoints.publish(store, folder, sha256, on_sent=remove))
        assert await asyncio.to_thread(s3.held.wait, 60)
        assert await checkpoints.remove(store, sha256, LATER)
        s3.released.set()
        await publishing

    asyncio.run(both())
    assert asyncio.run(checkpoints.fetch(store, sha256, tmp_path / "x" / "step-000004"))


def test_what_somebody_goes_on_removing_is_not_said_to_be_there(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, sha256 = trained(tmp_path)
    store = Store(s3.store)
    sizes = store.sizes

    async def removed(base: str) -> dict[str, int]:
        await store.delete([f"{base}/manifest.json"])
        return await sizes(base)

    monkeypatch.setattr(store, "sizes", removed)
    with pytest.raises(StoreUnavailable, match="is removed by somebody while it is sent; it is sent again later"):
        asyncio.run(checkpoints.publish(store, folder, sha256))
