"""The store as the rows say: what is sent, when it is away and afterwards, and what is taken out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from backends import checkpoints, manifest
from backends.store import Store
from db import mirrors
from db.session import transaction
from tasks import stored as local
from tasks import storing
from tests.s3_server import S3
from tests.tasks.hosts import (
    change,
    folders,
    held,
    host,
    is_there,
    later,
    noted,
    s3,
    trained,
    written,
)
from tests.tasks.rows import job, rows

__all__ = ["folders", "s3"]

pytestmark = pytest.mark.usefixtures("fresh")

ROOT = Path(__file__).parents[2]
SECONDS = (3.0, 10.0, 40.0)
"""What is tried in so many, and again in more where the machine has stalled."""


def test_without_a_store_nothing_is_done(tmp_path: Path) -> None:
    _, (one,) = trained(tmp_path / "one" / "artifacts", 4)
    assert storing.catch_up(later()) == "no store is set"
    assert storing.sweep(later()) == (0, True)
    assert local.at_hand(one.uri) == one.uri
    assert local.at_hand("/never/jobs/1/fence-1/step-000001") == "/never/jobs/1/fence-1/step-000001"
    assert noted() == {}


def test_what_is_missing_is_sent_once(s3: S3, tmp_path: Path) -> None:
    _, found = trained(tmp_path / "one" / "artifacts", 2, 4)
    assert storing.catch_up(later()) == "store: 2 of 2 sent"
    assert all(is_there(s3, one.sha256) for one in found)
    assert {ref: row.done_at is not None for ref, row in noted().items()} == {one.id: True for one in found}
    s3.requests.clear()
    assert storing.catch_up(later()) == "store: nothing waits here"
    assert s3.requests == []


def test_folders_of_other_hosts_given_up_and_remote_ones_are_not_this_hosts_to_send(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (gone, remote, theirs) = trained(tmp_path / "two" / "artifacts", 2, 4, 6)
    change("update rlfleet.checkpoints set removed_at = now() where id = :id", id=gone.id)
    change("update rlfleet.checkpoints set kind = 'remote', uri = 'wandb-artifact:///a' where id = :id", id=remote.id)
    change("update rlfleet.checkpoints set uri = replace(uri, '/two/', '/three/') where id = :id", id=theirs.id)
    assert storing.catch_up(later()) == "store: nothing waits here"
    assert noted() == {}
    host(tmp_path, "two", monkeypatch)  # where it lies below this host's own root
    assert storing.catch_up(later()) == "store: 1 of 1 sent"
    assert list(noted()) == [theirs.id]


def test_a_store_that_is_away_is_noted_and_caught_up_with(s3: S3, tmp_path: Path) -> None:
    _, found = trained(tmp_path / "one" / "artifacts", 2, 4)
    s3.befall("GET|PUT", "500")
    assert "InternalError" in storing.catch_up(later())
    assert {ref: (row.tries, row.done_at) for ref, row in noted().items()} == {one.id: (1, None) for one in found}
    with transaction() as session:
        (behind,) = mirrors.behind(session)
    assert (behind.target, behind.waiting) == ("store", 2)
    s3.requests.clear()
    assert storing.catch_up(later()) == "store: 2 wait for their next try"
    assert s3.requests == []
    s3.heal()
    change("update rlfleet.mirrors set next_at = now() where ref = :id", id=found[0].id)
    assert storing.catch_up(later()) == "store: 2 of 2 sent", "once it is well, none waits for its turn"
    with transaction() as session:
        assert mirrors.behind(session) == []


def test_a_checkpoint_too_large_for_one_pass_goes_on_in_the_next(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "PART_BYTES", 100)
    _, (one,) = trained(tmp_path / "one" / "artifacts", 4, weights=bytes(1050))
    monkeypatch.setattr(storing, "HANGS_SECONDS", 1e9)
    s3.befall("PUT .*part-00006", "hold")
    for seconds in SECONDS:
        assert storing.catch_up(time.monotonic() + seconds) == "store: 0 of 1 sent"
        if noted()[one.id].sent:
            break
    assert noted()[one.id].sent == 4
    s3.heal()
    s3.requests.clear()
    assert storing.catch_up(later()) == "store: 1 of 1 sent"
    assert s3.count("PUT") <= 9
    assert noted()[one.id].done_at is not None
    assert is_there(s3, one.sha256)


def test_a_store_that_hangs_is_left_alone_for_a_while(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "HANGS_SECONDS", 0.0)
    _, (one,) = trained(tmp_path / "one" / "artifacts", 4)
    s3.befall("GET", "hold")
    until = time.monotonic() + 60
    while not storing.catch_up(time.monotonic() + 4).endswith("took nothing of a checkpoint while it was waited for"):
        assert time.monotonic() < until
    assert storing.catch_up(later()) == "store: 1 wait for their next try"
    assert noted()[one.id].tries == 1


def test_a_slow_store_with_a_backlog_fails_at_nothing(s3: S3, tmp_path: Path) -> None:
    _, found = trained(tmp_path / "one" / "artifacts", 2, 4, 6, 8)
    s3.befall("PUT", "slow")
    passes, until = 0, time.monotonic() + 300
    while storing.catch_up(time.monotonic() + 1.5) != "store: nothing waits here":
        passes += 1
        assert [row.error for row in noted().values() if row.tries or row.error] == []
        assert time.monotonic() < until
    assert passes > 1
    assert all(is_there(s3, one.sha256) for one in found)


def test_a_store_that_took_one_has_not_failed_at_the_next(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "HANGS_SECONDS", 0.0)
    _, (second, first) = trained(tmp_path / "one" / "artifacts", 2, 4)
    publish = checkpoints.publish

    async def cut(store: Store, folder: Path, sha256: str, sent: int, on_sent: Callable[[int], None]) -> None:
        if sha256 == second.sha256:  # this pass is over
            on_sent(sent)
            raise TimeoutError
        await publish(store, folder, sha256, sent, on_sent)

    monkeypatch.setattr(checkpoints, "publish", cut)
    assert storing.catch_up(later()) == "store: 1 of 2 sent"
    found = {ref: (row.tries, row.done_at is not None) for ref, row in noted().items()}
    assert found == {second.id: (0, False), first.id: (0, True)}


def test_what_nobody_sends_for_an_hour_is_behind(s3: S3, tmp_path: Path) -> None:
    _, (_, second) = trained(tmp_path / "two" / "artifacts", 2, 4)
    with transaction() as session:
        storing.note_new(session, second.job_id, set())
        assert mirrors.behind(session) == []
    change("update rlfleet.mirrors set next_at = now() - interval '2 hours'")
    with transaction() as session:
        (behind,) = mirrors.behind(session)
    assert (behind.target, behind.waiting, behind.error) == ("store", 2, "not tried yet")


def test_a_folder_that_was_changed_holds_up_no_other(s3: S3, tmp_path: Path) -> None:
    _, (first, second) = trained(tmp_path / "one" / "artifacts", 2, 4)
    (Path(second.uri) / "adapter_config.json").write_text("{}")
    assert storing.catch_up(later()) == "store: 1 of 2 sent"
    assert "it is not stored; put the old contents back" in noted()[second.id].error
    assert is_there(s3, first.sha256)


@pytest.mark.parametrize("fault", ["403", "500"])
def test_checkpoints_that_the_store_does_not_take_hold_up_no_other(s3: S3, tmp_path: Path, fault: str) -> None:
    _, (first, *bad) = trained(tmp_path / "one" / "artifacts", 2, 4, 6)
    for one in bad:
        s3.befall(f"PUT .*{one.sha256}", fault)  # type: ignore[arg-type]
    assert storing.catch_up(later()).startswith("store: 0 of 3 sent; put s3://"), "two are enough to leave it alone"
    assert [(row.tries, row.done_at) for row in noted().values()] == [(1, None)] * 3
    passes = 0
    while not noted()[first.id].done_at:  # by chance: at one pass in three both bad ones come first
        passes += 1
        assert passes < 100
        change("update rlfleet.mirrors set next_at = now()")
        storing.catch_up(later())
    assert [row.done_at is not None for row in noted().values()] == [True, False, False]
    assert is_there(s3, first.sha256)


def test_a_backlog_is_left_alone_as_one_checkpoint_is(s3: S3, tmp_path: Path) -> None:
    """However many wait, a store that is away is asked after 15, 30, 60, ... seconds."""
    trained(tmp_path / "one" / "artifacts", 2, 4, 6, 8)
    s3.befall("GET|PUT", "500")
    for wait in (15, 30, 60, 120):
        assert storing.catch_up(later()).startswith("store: 0 of 4 sent; ")
        left = rows("select extract(epoch from next_at - failed_at) as seconds from rlfleet.mirrors")
        assert [float(row.seconds) for row in left] == [wait] * 4
        assert storing.catch_up(later()) == "store: 4 wait for their next try"
        change("update rlfleet.mirrors set next_at = now()")


@pytest.mark.parametrize("name", ["a b.json", "checkpoint.json"])
def test_a_folder_that_cannot_be_stored_holds_up_no_other(s3: S3, tmp_path: Path, name: str) -> None:
    _, (first, second) = trained(tmp_path / "one" / "artifacts", 2, 4)
    (Path(second.uri) / name).write_bytes(b"\xff")
    assert storing.catch_up(later()) == "store: 1 of 2 sent"
    assert ("cannot be stored" if " " in name else "can't decode") in noted()[second.id].error
    assert is_there(s3, first.sha256)


def test_one_process_of_a_host_sends_at_a_time(s3: S3, tmp_path: Path) -> None:
    trained(tmp_path / "one" / "artifacts", 4)
    with storing._alone() as is_mine:
        assert is_mine
        assert storing.catch_up(later()) == "store: another process of this host sends"
    assert storing.catch_up(later()) == "store: 1 of 1 sent"


def test_settings_that_cannot_be_used_fail_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(tmp_path / "one" / "artifacts", 4)
    monkeypatch.setenv("RLFLEET_STORE", "ftp://x")
    assert "RLFLEET_STORE = '<hidden>'" in storing.catch_up(later())
    assert storing.sweep(later()) == (0, True)
    assert storing.at_once([], held()) == frozenset()
    monkeypatch.setenv("RLFLEET_STORE", f"file://{tmp_path}/never")
    assert "there is no such folder" in storing.catch_up(later())


def test_a_training_sends_its_checkpoints_at_once_its_own_first(s3: S3, tmp_path: Path) -> None:
    made = written(tmp_path / "one" / "artifacts", 2, 4)
    assert storing.at_once(made, held()) == {one.sha256 for one in made}
    first = next(one for one in s3.requests if one.startswith("PUT"))
    assert made[1].sha256 in first


@pytest.mark.parametrize("fault", ["500", "403", "cut", "hold"])
def test_a_store_that_is_away_costs_a_training_its_patience_and_nothing_else(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    made = written(tmp_path / "one" / "artifacts", 2, 4)
    s3.befall(f"PUT .*{made[0].sha256}", fault)  # type: ignore[arg-type]
    lease = held()
    before = job(lease.claim.job_id).lease_until
    for seconds in SECONDS:
        monkeypatch.setenv("RLFLEET_STORE_SECONDS", str(seconds))
        began = time.monotonic()
        if (there := storing.at_once(made, lease)) and (s3.held.is_set() or fault != "hold"):
            break
    assert there == {made[1].sha256}
    if fault == "hold":
        assert seconds - 1 < time.monotonic() - began < seconds + 60
        assert job(lease.claim.job_id).lease_until > before, "its lease is renewed meanwhile"


def test_what_a_training_could_not_send_is_noted_with_its_version(s3: S3, tmp_path: Path) -> None:
    _, (first, second) = trained(tmp_path / "one" / "artifacts", 2, 4)
    with transaction() as session:
        storing.note_new(session, first.job_id, {second.sha256})
    assert {ref: row.done_at is not None for ref, row in noted().items()} == {first.id: False, second.id: True}
    assert storing.catch_up(later()) == "store: 1 of 1 sent"
