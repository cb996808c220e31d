from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from recorder.counts import Counts
from recorder.folder import Folder, root_lock
from recorder.spool import Spool


def event(number: int, size: int = 92) -> bytes:
    """An event that takes 100 bytes in a segment."""
    return b'{"n":%d}' % number + b" " * (size - len(b'{"n":%d}' % number))


def numbers(spool: Spool) -> list[int]:
    """Read and acknowledge everything."""
    found = []
    while (batch := spool.read(10, 1 << 20)) is not None:
        found += [json.loads(item)["n"] for item in batch.events]
        assert spool.acknowledge(batch)
    return found


def test_events_come_back_in_order_over_many_segments(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 80_000, "newest", Counts())
    spool.segment_bytes = 1_000
    for start in range(0, 100, 5):
        spool.append([event(number) for number in range(start, start + 5)])
    assert len(list(tmp_path.glob("spool/*/*.segment"))) == 10
    assert spool.pending == 100
    assert numbers(spool) == list(range(100))
    assert len(list(tmp_path.glob("spool/*/*.segment"))) == 1, "answered segments are deleted"
    spool.close(1.0)
    assert [path.name for path in (tmp_path / "spool").iterdir()] == [".lock"]


def test_what_is_spooled_is_for_its_owner_alone(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 1 << 20, "newest", Counts())
    spool.append([event(1)])
    paths = [tmp_path / "spool", *(tmp_path / "spool").rglob("*")]
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in paths} == {0}
    spool.close(1.0)


@pytest.mark.parametrize(("drop", "kept"), [("newest", range(10)), ("oldest", range(15, 25))])
def test_a_full_spool_drops_what_its_policy_says_and_counts_it(tmp_path: Path, drop: str, kept: range) -> None:
    counts = Counts()
    spool = Spool(tmp_path, 1_100, "newest" if drop == "newest" else "oldest", counts)
    spool.segment_bytes = 500
    for number in range(25):
        spool.append([event(number)])
    assert sum(path.stat().st_size for path in tmp_path.glob("*/*.segment")) <= 1_100
    found = numbers(spool)
    assert found == list(kept)[-len(found) :]
    assert len(found) >= 6
    assert counts["dropped"] == 25 - len(found)
    spool.close(1.0)


def test_the_bound_holds_over_all_processes_that_share_the_folder(tmp_path: Path) -> None:
    first, second = Spool(tmp_path, 1_000, "newest", Counts()), Spool(tmp_path, 1_000, "newest", Counts())
    first.append([event(number) for number in range(9)])
    second.append([event(number) for number in range(9)])
    assert (first.pending, second.pending) == (9, 0)
    assert second.counts["dropped"] == 9
    first.close(1.0)
    second.close(1.0)


def test_folders_are_taken_over_when_their_lock_is_free_and_not_before(tmp_path: Path) -> None:
    first, second = Spool(tmp_path, 1 << 20, "newest", Counts()), Spool(tmp_path, 1 << 20, "newest", Counts())
    first.append([event(1), event(2)])
    second.adopt()
    assert (second.pending, second.counts["adopted"]) == (0, 0)
    first.abandon()
    second.append([event(3)])
    second.adopt()
    assert (second.pending, second.counts["adopted"]) == (3, 2)
    assert numbers(second) == [1, 2, 3], "the oldest first"
    second.close(1.0)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_torn_end_is_cut_off_and_the_rest_is_sent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = Spool(tmp_path, 1 << 20, "newest", Counts())
    first.append([event(1), event(2)])
    first.abandon()
    (path,) = tmp_path.glob("*/*.segment")
    os.truncate(path, path.stat().st_size - 1)
    second = Spool(tmp_path, 1 << 20, "newest", Counts())
    second.adopt()
    assert numbers(second) == [1]
    assert "cut 99 bytes of a half-written event" in caplog.text
    second.close(1.0)


def test_what_was_dropped_while_it_was_under_way_is_not_acknowledged_too(tmp_path: Path) -> None:
    counts = Counts()
    spool = Spool(tmp_path, 1_000, "oldest", counts)
    spool.segment_bytes = 400
    spool.append([event(number) for number in range(4)])
    batch = spool.read(10, 1 << 20)
    assert batch is not None
    for number in range(4, 12):
        spool.append([event(number)])
    assert not spool.acknowledge(batch)
    spool.close(1.0)


def test_rejected_events_stand_one_a_line_with_the_reason(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 20, "newest", Counts())
    spool.reject(b'{"type":"recordStep"}', "stepNumber", "is missing")
    spool.reject(b'{"type":"feedback"}', "value", 'is "nan"')
    assert [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()] == [
        {"field": "stepNumber", "reason": "is missing", "event": {"type": "recordStep"}},
        {"field": "value", "reason": 'is "nan"', "event": {"type": "feedback"}},
    ]


def test_a_folder_that_was_made_but_not_yet_locked_is_taken_over_and_deleted(tmp_path: Path) -> None:
    (tmp_path / "1-abc").mkdir()
    spool = Spool(tmp_path, 1 << 20, "newest", Counts())
    spool.adopt()
    assert not (tmp_path / "1-abc").exists()


def test_one_lock_one_owner(tmp_path: Path) -> None:
    with root_lock(tmp_path):
        folder = Folder.create(tmp_path)
        assert Folder.take_over(folder.path) is None
        folder.abandon()
        again = Folder.take_over(folder.path)
        assert again is not None
        again.remove()
    assert not folder.path.exists()


def test_a_folder_that_is_given_up_is_free_although_a_child_inherited_its_lock(tmp_path: Path) -> None:
    with root_lock(tmp_path):
        folder = Folder.create(tmp_path)
        inherited = os.dup(folder._lock)
        folder.give_up()
        again = Folder.take_over(folder.path)
        assert again is not None
        again.remove()
    os.close(inherited)


def test_a_lock_that_is_inherited_stays_with_the_parent_when_the_child_closes_it(tmp_path: Path) -> None:
    with root_lock(tmp_path):
        folder = Folder.create(tmp_path)
        parents = os.dup(folder._lock)
        folder.abandon()
        assert Folder.take_over(folder.path) is None
        os.close(parents)
        again = Folder.take_over(folder.path)
        assert again is not None
        again.remove()
