"""The wall around the library: what is said where a store is wrong, refuses us or is away."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.settings import store_settings
from backends.store import Store, said
from rl.errors import InvalidSettings, StoreRefused, StoreUnavailable
from tests.s3_server import S3, s3

__all__ = ["s3"]


@pytest.fixture(params=["s3", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "file":
        (tmp_path / "a store").mkdir()
        yield Store(f"file://{tmp_path}/a%20store")
    else:
        yield Store(request.getfixturevalue("s3").store)


def test_objects_are_put_read_listed_and_deleted(store: Store) -> None:
    async def story() -> None:
        assert await store.get("a/one") is None
        assert await store.modified("a/one") is None
        assert await store.sizes("a") == {}
        await store.put("a/one", b"1")
        await store.put("a/one", b"eins")
        await store.put("a/two", b"")
        await store.put("ab/three", b"3")
        assert [await store.get("a/one"), await store.get("a/two")] == [b"eins", b""]
        assert await store.sizes("a") == {"a/one": 4, "a/two": 0}
        modified = await store.modified("a/one")
        assert modified is not None
        assert abs(modified.timestamp() - time.time()) < 60
        await store.delete(["a/one", "a/never"])
        assert await store.sizes("a") == {"a/two": 0}
        await store.clear("a")
        assert await store.sizes("a") == {}
        assert await store.get("ab/three") == b"3"
        await store.probe()
        assert await store.sizes("probe") == {}

    asyncio.run(story())


def test_a_folder_that_is_not_mounted_is_not_filled(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="there is no such folder; mount or make it, or correct RLFLEET_STORE"):
        Store(f"file://{tmp_path}/never")
    assert not (tmp_path / "never").exists()


def test_a_folder_that_cannot_be_written_is_refused_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "probe").write_text("a file where a folder is to be")
    with pytest.raises((StoreRefused, StoreUnavailable), match="put file://"):
        asyncio.run(Store(f"file://{tmp_path}").probe())


def test_a_bucket_that_is_not_there(s3: S3) -> None:
    store = Store("s3://never/made")
    for work in (lambda: store.get("a"), lambda: store.put("a", b""), lambda: store.sizes("a")):
        with pytest.raises(StoreRefused, match="there is no such bucket; make it, or correct RLFLEET_STORE"):
            asyncio.run(work())


def test_who_is_refused_is_told_what_to_set_and_no_secret(s3: S3) -> None:
    s3.befall("PUT", "403")
    with pytest.raises(StoreRefused) as refused:
        asyncio.run(Store(s3.store).probe())
    said = str(refused.value)
    assert "put s3://" in said
    assert "AccessDenied" in said
    assert "set AWS_ACCESS_KEY_ID" in said
    assert "a-key" not in said
    assert "a-secret" not in said


def test_a_server_that_fails_for_a_moment_is_asked_again(s3: S3) -> None:
    s3.befall("PUT", "500", times=2)
    asyncio.run(Store(s3.store).put("a", b"1"))
    assert s3.count("PUT") == 3


@pytest.mark.parametrize("fault", ["500", "cut", "lost"])
def test_a_server_that_goes_on_failing_is_unavailable(s3: S3, fault: str) -> None:
    s3.befall("PUT", fault)  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable, match=r"put s3://.*fleet/a: ") as failed:
        asyncio.run(Store(s3.store).put("a", b"1" * 100_000))
    assert "\n" not in str(failed.value)
    assert "a-secret" not in str(failed.value)


def test_nobody_there(monkeypatch: pytest.MonkeyPatch, s3: S3) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port}"):
        asyncio.run(Store(s3.store).get("a"))


@pytest.mark.parametrize("fault", ["500", "403", "nobody"])
def test_who_stands_in_the_endpoint_is_not_shown(monkeypatch: pytest.MonkeyPatch, s3: S3, fault: str) -> None:
    endpoint = s3.url if fault != "nobody" else "http://127.0.0.1:1"
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint.replace("://", "://somebody:hunter2@"))
    s3.befall("GET", fault)  # type: ignore[arg-type]
    with pytest.raises((StoreRefused, StoreUnavailable), match="http://127") as failed:
        asyncio.run(Store(s3.store).get("a"))
    assert "somebody" not in str(failed.value)
    assert "hunter2" not in str(failed.value)


def test_no_name_and_password_is_quoted() -> None:
    words = "Error performing GET http://a:b@c@host:9/x in 1ms - error for url (http://a:p@ss@host:9/x)"
    assert said(Exception(words)) == "http://host:9: error for url (http://host:9/x)"


def test_who_does_not_want_to_wait_any_more_need_not(s3: S3) -> None:
    s3.befall("GET", "hold")

    async def ask() -> None:
        asking = asyncio.ensure_future(Store(s3.store).get("a"))
        assert await asyncio.to_thread(s3.held.wait, 60)
        asking.cancel()
        await asyncio.wait_for(asking, 60)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(ask())
    assert not s3.released.is_set()


@pytest.mark.parametrize("url", ["s3://bucket", "s3://bucket/a/b", "gs://a-bucket/x", "file:///srv/rlfleet store", ""])
def test_urls(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("RLFLEET_STORE", url)
    assert store_settings().url == url


@pytest.mark.parametrize(
    "url", ["/srv/x", "s3://key:secret@bucket", "file://host/x", "http://x/y", "s3://b/x?secret=1"]
)
def test_a_url_that_is_none_or_holds_a_secret_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("RLFLEET_STORE", url)
    with pytest.raises(InvalidSettings, match="RLFLEET_STORE = '<hidden>'") as refused:
        store_settings()
    assert url not in str(refused.value)


def test_a_patience_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_STORE_SECONDS", "-1")
    with pytest.raises(InvalidSettings, match="RLFLEET_STORE_SECONDS = '-1'"):
        store_settings()
    assert "RLFLEET_STORE_SECONDS" in os.environ
