"""What retention gave up is taken out of the store, and what anybody needs is not."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from pathlib import Path

import pytest
from redis import Redis

import tasks
from backends import checkpoints
from backends.store import Store
from db import stored
from db.session import transaction
from tasks import storing
from tests.s3_server import S3
from tests.tasks.hosts import OLD, change, folders, is_there, is_there_once_healed, later, noted, s3, trained
from tests.tasks.rows import messages

__all__ = ["folders", "s3"]

pytestmark = pytest.mark.usefixtures("fresh")


def test_what_retention_gave_up_goes_from_the_store_after_a_day(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "GRACE_HOURS", 24)
    _, (gone, young, kept) = trained(tmp_path / "one" / "artifacts", 2, 4, 6)
    storing.catch_up(later())
    change(OLD, id=gone.id)
    change("update rlfleet.checkpoints set removed_at = now() - interval '1 hour' where id = :id", id=young.id)
    assert [one.sha256 for one in storing.would_remove()] == [gone.sha256]
    assert storing.sweep(later()) == (0, True), "it was written within the day"
    monkeypatch.setattr(stored, "GRACE_HOURS", 0)
    change("update rlfleet.checkpoints set removed_at = null where id = :id", id=young.id)
    assert storing.sweep(later()) == (1, True)
    assert [is_there(s3, one.sha256) for one in (gone, young, kept)] == [False, True, True]
    assert gone.id not in noted()
    assert storing.sweep(later()) == (0, True)


def test_equal_contents_that_any_version_needs_stay(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "GRACE_HOURS", 0)
    root = tmp_path / "one" / "artifacts"
    _, (one,) = trained(root, 4, weights=b"the same")
    _, (other,) = trained(root, 4, weights=b"the same", line="second")
    assert one.sha256 == other.sha256
    storing.catch_up(later())
    change(OLD, id=one.id)
    assert storing.would_remove() == []
    change(OLD, id=other.id)
    assert storing.sweep(later()) == (1, True)
    assert noted() == {}


def test_a_sweep_that_the_store_breaks_off_is_ended_by_the_next(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "GRACE_HOURS", 0)
    _, (gone,) = trained(tmp_path / "one" / "artifacts", 2)
    storing.catch_up(later())
    change(OLD, id=gone.id)
    s3.befall("GET", "500")
    assert storing.sweep(later()) == (0, True)
    assert not is_there_once_healed(s3, gone.sha256), "its manifest goes first"
    assert storing.sweep(later()) == (1, True)
    assert asyncio.run(Store(s3.store).sizes(checkpoints.folder_of(gone.sha256))) == {}


def test_a_sweep_goes_on_after_one_that_stays(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "GRACE_HOURS", 0)
    _, found = trained(tmp_path / "one" / "artifacts", 2, 4)
    storing.catch_up(later())
    for one in found:
        change(OLD, id=one.id)
    first, second = sorted(found, key=lambda one: one.sha256)
    s3.befall(f"HEAD .*{first.sha256}", "403")
    told: list[str] = []
    assert storing.sweep(later(), told.append) == (1, True)
    assert [one.partition(": head s3://")[0] for one in told] == [
        f"checkpoint {first.sha256[:12]} stays in the store until the next pass"
    ]
    assert [is_there(s3, one.sha256) for one in (first, second)] == [True, False]
    assert storing.would_remove() != []


def test_a_sweep_waits_for_a_store_no_longer_than_it_may(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "GRACE_HOURS", 0)
    _, (gone,) = trained(tmp_path / "one" / "artifacts", 2)
    storing.catch_up(later())
    change(OLD, id=gone.id)
    s3.befall("HEAD", "hold", times=1)
    began = time.monotonic()
    assert storing.sweep(began + 4)[0] == 0
    assert time.monotonic() - began < 60
    s3.heal()

    async def hangs(store: Store, sha256: str, before: datetime) -> bool:
        raise TimeoutError

    async def cut(store: Store, sha256: str, before: datetime) -> bool:
        await store.delete([f"{checkpoints.folder_of(sha256)}/manifest.json"])
        raise TimeoutError

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "remove", hangs)
        assert storing.sweep(later()) == (0, True), "the next pass is soon enough"
        patched.setattr(checkpoints, "remove", cut)
        assert storing.sweep(later()) == (0, False), "it gets on, and goes on at once"
    assert storing.sweep(later()) == (1, True)


def test_a_sweep_comes_to_what_lies_behind_one_that_hangs(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "GRACE_HOURS", 0)
    _, found = trained(tmp_path / "one" / "artifacts", 2, 4)
    storing.catch_up(later())
    for one in found:
        change(OLD, id=one.id)
    first, second = sorted(found, key=lambda one: one.sha256)
    s3.befall(f"HEAD .*{first.sha256}", "hold")
    until = time.monotonic() + 120
    while second.id in noted():
        storing.sweep(time.monotonic() + 2, lambda said: None)
        assert time.monotonic() < until
    assert [one.sha256 for one in storing.would_remove()] == [first.sha256]


def test_what_a_pass_left_in_the_middle_goes_too(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "GRACE_HOURS", 0)
    _, (one,) = trained(tmp_path / "one" / "artifacts", 4)

    async def cut(store: Store, folder: Path, sha256: str, *_: object) -> None:
        await store.put(f"{checkpoints.folder_of(sha256)}/adapter_config.json", b"{}")
        raise TimeoutError

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "publish", cut)
        assert storing.catch_up(later()) == "store: 0 of 1 sent"
    change(OLD, id=one.id)
    assert storing.sweep(later()) == (1, True)
    assert asyncio.run(Store(s3.store).sizes("checkpoints")) == {}


def test_what_is_taken_out_before_a_training_commits_the_same_is_sent_again(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "GRACE_HOURS", 0)
    root = tmp_path / "one" / "artifacts"
    _, (one,) = trained(root, 4, weights=b"the same")
    storing.catch_up(later())
    change(OLD, id=one.id)
    assert storing.sweep(later()) == (1, True)  # another training has just sent the same
    _, (two,) = trained(root, 4, weights=b"the same", line="second")
    assert two.sha256 == one.sha256
    with transaction() as session:
        storing.note_new(session, two.job_id, {two.sha256})
    assert storing.catch_up(later()) == "store: 1 of 1 sent"
    assert is_there(s3, two.sha256)


def test_a_store_that_hangs_keeps_nothing_on_this_disk(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broker: Redis
) -> None:
    monkeypatch.setattr(stored, "GRACE_HOURS", 0)
    _, (gone, kept) = trained(tmp_path / "one" / "artifacts", 2, 4)
    storing.catch_up(later())
    change(OLD, id=gone.id)

    async def cut(store: Store, sha256: str, before: datetime) -> bool:
        assert not Path(gone.uri).exists(), "its folder is gone before"
        raise TimeoutError

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "remove", cut)
        assert tasks.prune().endswith(", 1 folders"), "and a pass that gets nowhere asks for no other"
    assert Path(kept.uri).exists()
    assert "maint" not in messages(broker)
    assert tasks.prune().endswith(", 1 checkpoints from the store, 0 folders")
    assert not is_there(s3, gone.sha256)


def test_what_is_needed_again_meanwhile_stays_or_is_sent_again(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "GRACE_HOURS", 0)
    root = tmp_path / "one" / "artifacts"
    _, (one,) = trained(root, 4, weights=b"the same")
    _, (other,) = trained(root, 4, weights=b"the same", line="second")
    storing.catch_up(later())
    for same in (one, other):
        change(OLD, id=same.id)
    listed = storing.would_remove()
    assert len(listed) == 1
    needed = "update rlfleet.checkpoints set removed_at = null where id = :id"
    change(needed, id=other.id)
    monkeypatch.setattr(storing, "would_remove", lambda: listed)
    assert storing.sweep(later()) == (0, True)
    assert is_there(s3, one.sha256)
    # Too late for the look at the rows: whoever has the folder sends it again.
    change(OLD, id=other.id)
    remove = checkpoints.remove

    async def while_it_is_needed(store: Store, sha256: str, before: datetime) -> bool:
        change(needed, id=other.id)
        return await remove(store, sha256, before)

    monkeypatch.setattr(checkpoints, "remove", while_it_is_needed)
    assert storing.sweep(later()) == (1, True)
    assert {ref: row.done_at for ref, row in noted().items()} == {other.id: None}
    assert storing.catch_up(later()) == "store: 1 of 1 sent"
    assert is_there(s3, one.sha256)
