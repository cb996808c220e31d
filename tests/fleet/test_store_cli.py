"""The store in the shell: `rlfleet doctor` says what is wrong with it, `gc` takes from it, `backup` fetches from it."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from backends.store import Store
from db import checkpoints as rows_of
from db import stored
from db.session import transaction
from fleet import backup, cli
from fleet.doctor import store as doctor
from rl.errors import StoreRefused
from tasks import storing
from tests.conftest_database import *  # noqa: F403
from tests.conftest_database import empty
from tests.db import chains
from tests.s3_server import S3, s3
from tests.tasks.hosts import OLD, change, folder, host
from worker import settings as worker_settings

__all__ = ["s3"]


def looked(monkeypatch: pytest.MonkeyPatch, url: str) -> tuple[str, str, str]:
    monkeypatch.setenv("RLFLEET_STORE", url)
    (found,) = doctor.look({"RLFLEET_STORE": url})
    return found.level, found.words, found.remedy


def test_the_doctor_writes_and_reads(s3: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert looked(monkeypatch, s3.store) == ("ok", f"{s3.store} can be written and read", "")
    assert asyncio.run(Store(s3.store).sizes("probe")) == {}
    assert looked(monkeypatch, f"file://{tmp_path}")[0] == "ok"
    (found,) = doctor.look({})
    assert (found.level, found.check) == ("ok", "store")


def test_the_doctor_names_what_is_wrong_and_no_secret(s3: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    level, words, remedy = looked(monkeypatch, "s3://never/made")
    assert (level, words, remedy) == (
        "fail",
        "s3://never/made: there is no such bucket",
        "make it, or correct RLFLEET_STORE",
    )
    level, words, remedy = looked(monkeypatch, f"file://{tmp_path}/never")
    assert level == "fail"
    assert remedy == "mount or make it, or correct RLFLEET_STORE"
    s3.befall("PUT", "403", times=1)
    level, words, remedy = looked(monkeypatch, s3.store)
    assert (level, "AccessDenied" in words) == ("fail", True)
    assert remedy == "the key needs to list, get, put and delete"
    assert "set AWS_ACCESS_KEY_ID" in words
    s3.befall("GET", "500")
    level, words, remedy = looked(monkeypatch, s3.store)
    assert (level, "InternalError" in words, remedy.startswith("start it, or correct")) == ("fail", True, True)
    s3.heal()
    assert "a-secret" not in words + remedy
    monkeypatch.setattr(doctor, "SECONDS", 0.5)
    s3.befall("GET", "hold")
    s3.released.clear()
    assert looked(monkeypatch, s3.store)[1] == f"{s3.store} did not answer within 0 s"
    level, words, remedy = looked(monkeypatch, "ftp://x:hunter2@y")
    assert (level, "hunter2" in words + remedy) == ("fail", False)


@pytest.fixture
def made(database: str, s3: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Two checkpoints of a version, both in the store."""
    monkeypatch.setenv("RLFLEET_STATE", str(tmp_path / "state"))
    root = host(tmp_path, "one", monkeypatch)
    with transaction() as session:
        empty(session)
        version = chains.add_version(session, chains.add_line(session), (2, 4), state="ready")
        found = rows_of.of_version(session, version)
        for one in found:
            path, one.sha256 = folder(root, one.job_id, one.step)
            one.uri = str(path)
    assert storing.catch_up(time.monotonic() + 60) == "store: 2 of 2 sent"
    yield found
    worker_settings.settings.cache_clear()


def test_gc_shows_and_takes_out_what_retention_gave_up(made: Any, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "GRACE_HOURS", 0)
    gone, kept = made
    change(OLD, id=gone.id)
    shown = json.loads(CliRunner().invoke(cli.app, ["gc", "--json"]).stdout)
    assert shown["would_remove"]["store"] == [{"checkpoint": gone.uri, "sha256": gone.sha256}]
    assert f"checkpoint {gone.sha256[:12]} from the store" in CliRunner().invoke(cli.app, ["gc"]).stdout
    done = json.loads(CliRunner().invoke(cli.app, ["gc", "--apply", "--json"]).stdout)
    assert done["removed"]["checkpoints from the store"] == 1
    store = Store(s3.store)
    assert asyncio.run(store.sizes(f"checkpoints/{gone.sha256}")) == {}
    assert len(asyncio.run(store.sizes(f"checkpoints/{kept.sha256}"))) == 3


def test_gc_says_what_the_store_does_not_let_go_and_goes_on(made: Any, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "GRACE_HOURS", 0)
    for one in made:
        change(OLD, id=one.id)
    stays, goes = sorted(made, key=lambda one: str(one.sha256))
    s3.befall(f"HEAD .*{stays.sha256}", "403")
    told = CliRunner().invoke(cli.app, ["gc", "--apply", "--json"])
    assert told.exit_code == 1
    done = json.loads(told.stdout)
    assert (done["removed"]["checkpoints from the store"], done["removed"]["folders"]) == (1, 2)
    (failed,) = done["failed"]
    assert failed.startswith(f"checkpoint {stays.sha256[:12]} stays in the store until the next pass: head s3://")
    store = Store(s3.store)
    assert asyncio.run(store.sizes(f"checkpoints/{goes.sha256}")) == {}
    told = CliRunner().invoke(cli.app, ["gc", "--apply"])
    assert told.exit_code == 1
    assert f"checkpoint {stays.sha256[:12]} stays in the store" in told.stdout
    s3.heal()
    told = CliRunner().invoke(cli.app, ["gc", "--apply"])
    assert (told.exit_code, "1 checkpoints from the store" in told.stdout) == (0, True)
    assert asyncio.run(store.sizes(f"checkpoints/{stays.sha256}")) == {}


def test_a_backup_keeps_what_is_here_and_rests_on_what_is_nowhere(
    made: Any, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, adapter = made
    change("update rlfleet.checkpoints set base_uri = :base where id = :id", base=base.uri, id=adapter.id)
    shutil.rmtree(base.uri)
    asyncio.run(Store(s3.store).clear(f"checkpoints/{base.sha256}"))
    manifest = backup.backup(tmp_path / "saved", tmp_path / "one" / "artifacts")
    assert [one.path for one in manifest.artifacts] == [adapter.uri]
    assert base.uri in manifest.missing


def test_a_backup_fetches_what_is_not_here_and_a_restore_puts_it_below_the_root(
    made: Any, s3: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "one").rename(tmp_path / "lost")
    asyncio.run(Store(s3.store).clear(f"checkpoints/{made[0].sha256}"))
    root = host(tmp_path, "two", monkeypatch)
    manifest = backup.backup(tmp_path / "saved", root)
    place = made[1].uri.partition("/artifacts/")[2]
    assert [(one.path, one.kept) for one in manifest.artifacts] == [(made[1].uri, f"artifacts/{place}")]
    assert made[0].uri in manifest.missing
    assert "/base" in manifest.missing
    (artifact,) = manifest.artifacts
    assert backup._place(artifact, tmp_path / "three") == tmp_path / "three" / place
    s3.befall("GET", "403")
    (root / place).rename(tmp_path / "aside")
    with pytest.raises(StoreRefused, match="AccessDenied"):
        backup.backup(tmp_path / "again", root)
    assert not (tmp_path / "again").exists()
