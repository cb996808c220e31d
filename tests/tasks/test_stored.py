"""Having a checkpoint on a host that does not have its folder."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from backends import manifest
from backends.store import Store
from db import alerts, stored, versions
from db.session import transaction
from gpu import fetching
from rl.errors import EngineUnavailable, InvalidInput, StoreDamaged, StoreLacks, StoreRefused, StoreUnavailable
from tasks import carry, storing
from tasks import stored as local
from tasks.alert_remedies import remedy_of
from tasks.carry import Lease
from tests.s3_server import S3
from tests.tasks.hosts import (
    change,
    folders,
    held,
    host,
    later,
    noted,
    s3,
    trained,
)
from tests.tasks.rows import add_line, asked, claimed

__all__ = ["folders", "s3"]

pytestmark = pytest.mark.usefixtures("fresh")

ROOT = Path(__file__).parents[2]


def test_another_host_fetches_what_it_needs_and_what_that_rests_on(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (base,) = trained(tmp_path / "one" / "artifacts", 4)
    _, (adapter,) = trained(tmp_path / "one" / "artifacts", 8)
    change("update rlfleet.checkpoints set base_uri = :base where id = :id", base=base.uri, id=adapter.id)
    storing.catch_up(later())
    (tmp_path / "one").rename(tmp_path / "lost")
    root = host(tmp_path, "two", monkeypatch)
    found = local.at_hand(adapter.uri, held())
    assert found == str(root / f"jobs/{adapter.job_id}/fence-1/step-000008")
    assert (Path(found) / "adapter_model.safetensors").read_bytes() == b"%d/8" % adapter.job_id
    assert (root / f"jobs/{base.job_id}/fence-1/step-000004/adapter_model.safetensors").is_file()
    assert local.at_hand(found) == found, "by this host's own name for it"
    s3.requests.clear()
    assert local.at_hand(adapter.uri) == found
    assert s3.requests == []


def test_what_a_checkpoint_rests_on_is_fetched_first_and_also_where_only_that_is_missing(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "one" / "artifacts"  # the same on both hosts
    _, (base,) = trained(root, 4)
    _, (adapter,) = trained(root, 8)
    change("update rlfleet.checkpoints set base_uri = :base where id = :id", base=base.uri, id=adapter.id)
    for name, said in (
        ("adapter_config.json", {"base_model_name_or_path": base.uri}),
        ("checkpoint.json", {"base": base.uri}),
    ):
        (Path(adapter.uri) / name).write_text(json.dumps(said))
    (Path(base.uri) / "adapter_config.json").rename(Path(base.uri) / "config.json")
    for one in (base, adapter):
        sha256 = asyncio.run(manifest.of_folder(Path(one.uri))).sha256
        change("update rlfleet.checkpoints set sha256 = :sha256 where id = :id", sha256=sha256, id=one.id)
    assert storing.catch_up(later()) == "store: 2 of 2 sent"
    (tmp_path / "one").rename(tmp_path / "host")
    s3.befall("GET .*/config.json", "500")
    with pytest.raises(StoreUnavailable):
        local.at_hand(adapter.uri)
    assert not Path(adapter.uri).exists(), "nobody finds it without its base"
    s3.heal()
    assert fetching.at_hand(adapter.uri) == adapter.uri
    assert all(Path(one.uri).is_dir() for one in (base, adapter))
    shutil.rmtree(base.uri)
    assert fetching.at_hand(adapter.uri, "/another/base") == adapter.uri
    assert not Path(base.uri).exists()
    assert fetching.at_hand(adapter.uri) == adapter.uri
    assert Path(base.uri).is_dir(), "also where only the adapter is there"
    s3.requests.clear()
    monkeypatch.setattr(fetching, "COMMAND", ("never",))
    assert fetching.at_hand(adapter.uri) == adapter.uri


def test_a_process_that_says_much_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    talks = "import sys; sys.stderr.write('a warning\\n' * 100_000 + 'StoreLacks: not yet\\n'); sys.exit(1)"
    monkeypatch.setattr(fetching, "COMMAND", (sys.executable, "-c", talks))
    with pytest.raises(EngineUnavailable, match=r"is not fetched now: StoreLacks: not yet$"):
        fetching.at_hand("/never/jobs/1/fence-1/step-000001")


def test_a_process_without_database_or_store_asks_another(
    s3: S3,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    database_away: Callable[[], AbstractContextManager[None]],
) -> None:
    _, (one,) = trained(tmp_path / "one" / "artifacts", 4)
    storing.catch_up(later())
    (tmp_path / "one").rename(tmp_path / "lost")
    away = host(tmp_path, "two", monkeypatch)
    s3.befall("GET", "403", times=1)
    with pytest.raises(EngineUnavailable, match="is not fetched now: StoreRefused: get s3://"):
        fetching.at_hand(one.uri)
    with database_away(), pytest.raises(EngineUnavailable, match="is not fetched now: DatabaseUnavailable: "):
        fetching.at_hand(one.uri)
    assert fetching.at_hand(one.uri) == str(away / f"jobs/{one.job_id}/fence-1/step-000004")
    assert fetching.at_hand("/never/there") == "/never/there"
    change("update rlfleet.checkpoints set removed_at = now()")
    away.rename(tmp_path / "three")
    with pytest.raises(InvalidInput, match="retention gave it up"):
        fetching.at_hand(one.uri)


def test_a_fetch_ends_with_whoever_asked_for_it(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, (one,) = trained(tmp_path / "one" / "artifacts", 4)
    storing.catch_up(later())
    (tmp_path / "one").rename(tmp_path / "lost")
    s3.befall("GET", "hold")
    argv = [sys.executable, "-m", "tasks.stored", one.uri]
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environ) as process:
        assert s3.held.wait(60)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 2


def test_what_the_store_lacks_or_holds_damaged_is_sent_anew_by_who_has_it(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (one,) = trained(tmp_path / "one" / "artifacts", 4)
    storing.catch_up(later())
    path = f"checkpoints/{one.sha256}/adapter_model.safetensors"
    asyncio.run(Store(s3.store).put(path, b"7/9"))
    (tmp_path / "one").rename(tmp_path / "lost")
    root = host(tmp_path, "two", monkeypatch)
    with pytest.raises(StoreDamaged, match=r"adapter_model\.safetensors is damaged"):
        local.at_hand(one.uri)
    assert not (root / f"jobs/{one.job_id}/fence-1/step-000004").exists()
    assert noted()[one.id].done_at is None

    (tmp_path / "lost").rename(tmp_path / "one")
    assert storing.catch_up(later()) == "store: 1 of 1 sent", "by the path of its row, which is there again"
    asyncio.run(Store(s3.store).delete([f"checkpoints/{one.sha256}/manifest.json"]))
    (tmp_path / "one").rename(tmp_path / "lost")
    with pytest.raises(StoreLacks, match="the host that made it sends it"):
        local.at_hand(one.uri)
    assert noted()[one.id].done_at is None
    (tmp_path / "lost").rename(tmp_path / "one")
    storing.catch_up(later())
    (tmp_path / "one").rename(tmp_path / "lost")
    assert Path(local.at_hand(one.uri)).is_dir()


@pytest.mark.parametrize("fault", ["500", "403"])
def test_a_store_that_is_away_or_refuses_is_told(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    _, (one,) = trained(tmp_path / "one" / "artifacts", 4)
    storing.catch_up(later())
    host(tmp_path, "two", monkeypatch)
    (tmp_path / "one").rename(tmp_path / "lost")
    s3.befall("GET", fault)  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable if fault == "500" else StoreRefused):
        local.at_hand(one.uri)
    assert noted()[one.id].done_at is not None, "what was not looked at is not doubted"


def test_who_lacks_it_again_and_again_keeps_nobody_from_sending_it(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "PART_BYTES", 100)
    _, (one,) = trained(tmp_path / "one" / "artifacts", 4, weights=bytes(1050))
    s3.befall("PUT .*part-0000[89]", "500")
    for part in range(3):
        storing.catch_up(later())
        change("update rlfleet.mirrors set next_at = now()")
        assert noted()[one.id].sent == 8, f"try {part}: parts that are there are not forgotten"
        with transaction() as session:
            stored.doubt(session, one.sha256)
        assert noted()[one.id].tries > part
    s3.heal()
    s3.requests.clear()
    assert storing.catch_up(later()) == "store: 1 of 1 sent"
    assert s3.count("PUT") <= 6
    with transaction() as session:
        stored.doubt(session, one.sha256)
    row = noted()[one.id]
    assert (row.sent, row.done_at) == (0, None), "it is there, and is doubted all the same"


def test_what_the_store_lacks_and_no_row_asks_for_is_asked_for(s3: S3, tmp_path: Path) -> None:
    _, (one,) = trained(tmp_path / "two" / "artifacts", 4)
    (tmp_path / "two").rename(tmp_path / "lost")
    with pytest.raises(StoreLacks):
        local.at_hand(one.uri)
    assert {ref: row.done_at for ref, row in noted().items()} == {one.id: None}


def ended(error: Exception, job_id: int) -> Any:
    """The job once an attempt ended so, which is due now."""
    change("update rlfleet.jobs set run_at = now() where id = :id", id=job_id)
    claim = claimed(job_id, lease_seconds=60)

    def work(*_: object) -> Any:
        raise error

    assert carry._attempt(claim, work, Lease(claim, 60)) is None
    query = """
        select *, extract(epoch from run_at - (select max(at) from rlfleet.job_events where job_id = j.id)) as waits
          from rlfleet.jobs j where id = :id
    """
    with transaction() as session:
        return session.execute(text(query), {"id": job_id}).one()


def test_an_attempt_that_waits_for_the_store_is_not_charged_and_waits_longer_each_time(fresh: str) -> None:
    job_id = asked(add_line("other"))
    for wait in (2, 4, 8, 16, 32, 60, 60):
        row = ended(StoreLacks("the store does not have it yet"), job_id)
        assert (row.state, row.attempt) == ("queued", 0)
        assert row.waits == wait
        assert row.error == "StoreLacks: the store does not have it yet"
    change("update rlfleet.jobs set fence = 2000 where id = :id", id=job_id)
    row = ended(StoreUnavailable("the store is away for days"), job_id)
    assert (row.state, row.attempt, row.waits) == ("queued", 0, 60)


def test_an_attempt_that_the_store_refuses_is_charged_and_comes_again_a_minute_later(fresh: str) -> None:
    job_id = asked(add_line("other"))
    for attempt, state in ((1, "queued"), (2, "queued"), (3, "dead")):
        row = ended(StoreDamaged("a part is not what was sent"), job_id)
        assert (row.state, row.attempt) == (state, attempt)
        assert row.waits == 60


def test_a_person_is_told_of_a_job_that_waits_for_the_store_for_an_hour(fresh: str) -> None:
    job_id, error = asked(add_line("other")), StoreLacks("the store does not have checkpoint 0123 yet")
    aged = "update rlfleet.job_events set at = at - interval '2 hours'"

    def told() -> list[int]:
        with transaction() as session:
            return stored.alert_lacking(session)

    ended(error, job_id)
    assert told() == []
    change(aged)
    ended(EngineUnavailable("it drains"), job_id)
    ended(error, job_id)
    assert told() == [], "something else was wrong since"
    change(aged)
    assert told() == [job_id]
    ended(error, job_id)
    assert told() == [job_id]
    (alert,) = alerts.waiting()
    assert (alert.name, alert.subject) == ("store_lacks", f"job {job_id}")
    assert (alert.detail["line"], alert.detail["error"]) == ("other", f"StoreLacks: {error}")
    assert remedy_of(alert.name, alert.detail).endswith(f"`rlfleet jobs cancel {job_id}`")
    claimed(asked(add_line("another")))
    change("update rlfleet.jobs set state = 'cancelled' where id = :id", id=job_id)
    assert told() == []


def test_rows_of_a_version_say_where_its_parent_was(tmp_path: Path) -> None:
    name, (one,) = trained(tmp_path / "two" / "artifacts", 4)
    with transaction() as session:
        assert versions.named(session, name)[1].uri == one.uri
        found = stored.placed(session, f"/elsewhere/jobs/{one.job_id}/fence-1/step-000004")
        assert found is not None
        assert (found.uri, found.sha256) == (one.uri, one.sha256)
        assert stored.placed(session, "/base") is None
        assert stored.placed(session, f"/elsewhere/jobs/{one.job_id}/fence-2/step-000004") is None
