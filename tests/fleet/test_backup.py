from __future__ import annotations

import errno
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest
import redis
from alembic import command
from sqlalchemy.orm import Session

from db import backup as rows_of_backup
from db import calls, datasets, dispatch, jobs, lines, pauses, trajectories, versions, windows, workers
from db import session as db_session
from db.migrate import alembic_config, migrate
from db.session import transaction
from fleet import backup, folders
from fleet.home import Endpoints, Home
from fleet.servers import Servers
from rl.config import LineConfig
from rl.errors import DiskFull, InvalidInput
from rl.records import Call, Message, Quarantined, Trajectory
from rl.scoring import by_reward
from rl.windows import parse
from tests.conftest_database import *  # noqa: F403
from tests.conftest_database import _execute, _forget, empty

ROOT = Path(__file__).parents[2]
HOUR = "2025-01-15T10:00"
OLD_POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("1[0-7]/bin"), reverse=True)), None)
AWKWARD = "a\ttab, a\nline, a \\backslash, \\N, a ✓, a \x01 and an é 🙂"


def _rlfleet(environ: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    given = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    argv = [sys.executable, "-m", "fleet", *words]
    return subprocess.run(argv, cwd=ROOT, env=given | environ, capture_output=True, text=True, check=False, timeout=120)


@contextmanager
def _speaking_to(url: str) -> Iterator[None]:
    """This process's ``db`` speaks to the database at ``url`` meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", url)
        _forget()
        try:
            yield
        finally:
            db_session.dispose()
    _forget()


@contextmanager
def _running(environ: dict[str, str]) -> Iterator[Endpoints]:
    """The servers of a home, which this process's ``db`` speaks to meanwhile."""
    with Home.open(environ) as home:
        servers = Servers(home, environ)
        try:
            endpoints = servers.start()
            with _speaking_to(endpoints.database_url):
                yield endpoints
        finally:
            servers.stop()


def _rows(url: str) -> dict[str, list[str]]:
    """Every row of every table of ours, as text."""
    connection = psycopg2.connect(url.replace("+psycopg2", ""), options="-c timezone=UTC")
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("select table_name from information_schema.tables where table_schema = 'rlfleet'")
            found = {}
            for (name,) in sorted(cursor.fetchall()):
                cursor.execute(f"select t::text from rlfleet.{name} t order by 1")  # noqa: S608 - the catalogue's names
                found[name] = [row[0] for row in cursor.fetchall()]
            return found
    finally:
        connection.close()


def _weights(folder: Path, name: str) -> str:
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(name.encode() * 1000)
    (folder / "adapter_config.json").write_text(json.dumps({"of": name}))
    return str(folder)


def _trajectory(number: int) -> Trajectory:
    moment = parse(HOUR).hour
    assert moment is not None
    call = Call(
        call_id=f"t{number}/0",
        turn=0,
        model="babylon-agent-v1.0.0",
        messages=[Message(role="user", content=AWKWARD.replace("\x01", "\x7f"))],
        response=Message(role="assistant", content="forward"),
        prompt_token_ids=[1, 2, 3],
        token_ids=[7, 8],
        logprobs=[-0.1, -1e-7],
    )
    return Trajectory(
        trajectory_id=f"t{number}",
        scenario_id=AWKWARD.replace("\x01", ""),
        agent_id="a",
        started_at=moment,
        ended_at=moment,
        reward=0.1 + number,
        calls=[call],
    )


def _fill(root: Path, base: Path) -> dict[str, int]:
    """Rows as a working fleet has them: a trained version, a held job whose lease is over, and jobs that wait."""
    with transaction() as session:
        line_id = lines.put(session, "main", LineConfig(base_model=str(base)))
        line = lines.named(session, "main")
        window = windows.ensure(session, line_id, parse(HOUR), state="scored")
        windows.ensure(session, line_id, parse("2025-01-15T11:00"), state="closed")
        several = [_trajectory(number) for number in range(3)]
        trajectories.insert_trajectories(session, line_id, window, "jsonl:///logs", several)
        spoken = [
            calls.NewCall.of(call, trajectory_id=one.trajectory_id, line="main", agent_id=None)
            for one in several
            for call in one.calls
        ]
        calls.insert(session, spoken)
        trajectories.insert_scores(session, [by_reward(one.trajectory_id, one.reward) for one in several])
        bad = Quarantined(source="logs", row="7", field="reward", reason="nan", excerpt=AWKWARD.replace("\x01", ""))
        trajectories.insert_quarantine(session, line_id, window, [bad])
        ids = {name: _ask(session, line_id, name) for name in ("trained", "held", "first", "second", "dead")}
    with transaction() as session:
        found = trajectories.of_windows(session, [window])
        datasets.freeze(session, line_id, ids["trained"], [window], found, {"windows": [HOUR]})
    _train(line.name, ids["trained"], root, base)
    held = jobs.claim(ids["held"], "host:1", 0.01, "message-1")
    assert held is not None
    dead = jobs.claim(ids["dead"], "host:2", 60)
    assert dead is not None
    jobs.fail(dead, f"PermanentError: {AWKWARD}", retry=False)
    state = _weights(root / "jobs" / str(ids["second"]) / "fence-1" / "state", "state")
    second = jobs.claim(ids["second"], "host:3", 60)
    assert second is not None
    assert jobs.release(second, "draining", {"path": state, "step": 3, "sha256": "0" * 64})
    return ids


def _ask(session: Session, line_id: int, name: str) -> int:
    spec = dispatch.Spec("score", line_id, {"n": name}, {}, "score")
    return dispatch.request(session, spec)


def _train(line: str, job_id: int, root: Path, base: Path) -> None:
    claim = jobs.claim(job_id, "host:0", 60)
    assert claim is not None
    uri = _weights(root / "jobs" / str(job_id) / "fence-1" / "step-000002", "step 2")

    def effect(session: Session) -> dict[str, Any]:
        row = lines.named(session, line)
        one = versions.NewCheckpoint(2, "adapter", uri, str(base), "0" * 64, {"loss": 0.1})
        version = versions.add(
            session,
            line=row,
            prefix="babylon-agent",
            job_id=job_id,
            fence=1,
            checkpoints=[one],
            parent_id=None,
            base_model=str(base),
            manifest={"windows": [HOUR]},
        )
        return {"version": version.name}

    with transaction() as session:
        jobs.finish(session, claim, effect)


def _hashes(folder: Path) -> dict[str, str]:
    return folders.files_of(folder)


def _moved(rows: dict[str, list[str]], old: Path, new: Path) -> dict[str, list[str]]:
    """The rows with the folders below ``old`` named below ``new``."""
    return {name: sorted(row.replace(f"{old}/", f"{new}/") for row in found) for name, found in rows.items()}


@pytest.fixture
def another(postgres_url: str) -> Iterator[str]:
    """The URL of a second, empty database."""
    name = f"another_{os.getpid()}"
    _execute(postgres_url, f"create database {name}")
    plain = "postgresql://" + postgres_url.split("://", 1)[1]
    yield urlunsplit(urlsplit(plain)._replace(path=f"/{name}"))
    _execute(postgres_url, f"drop database {name} with (force)")


@pytest.fixture
def saved(database: str, tmp_path: Path) -> Path:
    """A backup of a database in use, with the root of its artifacts beside it."""
    with transaction() as session:
        empty(session)
    root = tmp_path / "artifacts"
    _fill(root, Path(_weights(tmp_path / "base", "base")))
    backup.backup(tmp_path / "saved", root)
    return tmp_path / "saved"


def test_a_backup_is_private_and_says_what_it_holds(saved: Path) -> None:
    said = json.loads((saved / "manifest.json").read_text())
    assert (said["schema"], said["revision"], said["missing"]) == (1, _head(), [])
    rows = {table["name"]: table["rows"] for table in said["tables"]}
    assert (rows["trajectories_2025w03"], rows["jobs"], rows["versions"], rows["alerts"]) == (3, 5, 1, 1)
    kept = {one["path"]: one["kept"] for one in said["artifacts"]}
    assert len(kept) == 3
    assert kept[str(saved.parent / "base")].startswith("elsewhere/")
    assert all(path.startswith(("elsewhere/", "artifacts/jobs/")) for path in kept.values())
    assert saved.stat().st_mode & 0o077 == 0
    assert {path.name for path in saved.parent.iterdir()} == {"artifacts", "base", "saved"}


def test_rows_come_back_under_another_root(saved: Path, database: str, another: str, tmp_path: Path) -> None:
    before = _rows(database)
    with _speaking_to(another):
        backup.restore(saved, tmp_path / "elsewhere")
    assert _rows(another) == _moved(before, tmp_path / "artifacts", tmp_path / "elsewhere")
    assert _hashes(tmp_path / "elsewhere") == _hashes(saved / "artifacts") == _hashes(tmp_path / "artifacts")


def test_a_restored_job_gets_a_new_number_and_its_history(
    saved: Path, database: str, another: str, tmp_path: Path
) -> None:
    with _speaking_to(another):
        backup.restore(saved, tmp_path / "artifacts")
        with transaction() as session:
            line_id = lines.named(session, "main").id
            fresh = _ask(session, line_id, "asked after the restore")
            known = _ask(session, line_id, "held")
    said = json.loads((saved / "manifest.json").read_text())
    assert fresh == said["sequences"]["jobs_id_seq"] + 1
    assert known < fresh
    assert [row for row in _rows(another)["job_events"] if f",{fresh}," in row], "triggers are on again"


def test_what_a_restore_refuses_is_left_as_it_was(saved: Path, database: str, another: str, tmp_path: Path) -> None:
    full = _rows(database)
    with pytest.raises(InvalidInput, match="has rows; restore into an empty database"):
        backup.restore(saved, tmp_path / "artifacts")
    assert _rows(database) == full
    with _speaking_to(another):
        manifest = json.loads((saved / "manifest.json").read_text())
        (saved / "manifest.json").write_text(json.dumps(manifest | {"revision": "9999"}))
        with pytest.raises(InvalidInput, match="revision = '9999': this code does not know it"):
            backup.restore(saved, tmp_path / "new")
        (saved / "manifest.json").write_text(json.dumps(manifest))
        file = next(saved.glob("artifacts/jobs/*/*/step-*/adapter_config.json"))
        text = file.read_text()
        file.unlink()  # a hard link: the original must stay
        with pytest.raises(InvalidInput, match=r"adapter_config.json': this file is missing"):
            backup.restore(saved, tmp_path / "new")
        file.write_text(text.replace("step", "stop"))
        with pytest.raises(InvalidInput, match=r"adapter_config.json': its contents have changed"):
            backup.restore(saved, tmp_path / "new")
        file.write_text(text)
        (saved / "tables" / "jobs.copy.gz").write_bytes(gzip.compress(b""))
        with pytest.raises(InvalidInput, match=r"jobs.copy.gz': its contents have changed"):
            backup.restore(saved, tmp_path / "new")
    assert _rows(another) == {}
    assert not (tmp_path / "new").exists()


def test_another_folder_in_the_place_of_one_is_not_overwritten(
    saved: Path, database: str, another: str, tmp_path: Path
) -> None:
    (tmp_path / "base" / "adapter_config.json").unlink()
    (tmp_path / "base" / "adapter_config.json").write_text("trained further")
    with _speaking_to(another), pytest.raises(InvalidInput, match="it holds something else than the backup"):
        backup.restore(saved, tmp_path / "artifacts")
    assert (tmp_path / "base" / "adapter_config.json").read_text() == "trained further"


def test_rows_of_an_older_revision_are_migrated(database: str, another: str, tmp_path: Path) -> None:
    with _speaking_to(another):
        command.upgrade(alembic_config(), "0001")
        _execute(another, "insert into rlfleet.lines (name, config) values ('old', '{\"base_model\": \"hub/one\"}')")
        backup.backup(tmp_path / "saved", tmp_path / "artifacts")
        _execute(another, "drop schema rlfleet cascade")
        migrate()  # as `rlfleet up` does before anybody restores
        backup.restore(tmp_path / "saved", tmp_path / "artifacts")
    rows = _rows(another)
    assert rows["alembic_version"] == [f"({_head()})"]
    assert [row.split(",")[1] for row in rows["lines"]] == ["old"]
    assert rows["alerts"] == []


def test_a_folder_that_is_removed_while_it_is_copied_is_missing(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, kept = tmp_path / "state-000004", tmp_path / "saved" / "state-000004"
    source.mkdir()
    for name in ("a", "b"):
        (source / name).write_text(name)
    link = folders._link_or_copy

    def lose(file: Path, there: Path) -> None:
        link(file, there)
        (source / "b").unlink()

    with monkeypatch.context() as patch:
        patch.setattr(folders, "_link_or_copy", lose)
        assert folders.keep(source, kept) is None
    assert not kept.exists()
    assert folders.keep(tmp_path / "never", kept) is None
    assert list(folders.keep(source, kept) or ()) == ["a"]


def test_processes_that_ran_are_not_restored(database: str, another: str, tmp_path: Path) -> None:
    with _speaking_to(another):
        migrate()
        _execute(another, "insert into rlfleet.lines (name, config) values ('main', '{}')")
        workers.announce("gpu0@a", ["gpu"], 1, "gpu0", 7)
        _execute(another, "insert into rlfleet.engines (name, url, device, pid) values ('e', 'http://e', 'cpu', 1)")
        pauses.pause("train", "moving the disks")
        backup.backup(tmp_path / "saved", tmp_path / "artifacts")
        _execute(another, "drop schema rlfleet cascade")
        backup.restore(tmp_path / "saved", tmp_path / "artifacts")
    found = {name: len(rows) for name, rows in _rows(another).items()}
    assert [found[name] for name in ("lines", "pauses", "workers", "engines")] == [1, 1, 0, 0]


def test_tables_that_are_filled_at_the_last_moment_are_not_dropped(database: str, another: str) -> None:
    with _speaking_to(another):
        migrate()
        _execute(another, "insert into rlfleet.lines (name, config) values ('new', '{}')")
        with pytest.raises(InvalidInput, match="has rows; restore into an empty database"):
            rows_of_backup._make_schema("0001")
    assert [row.split(",")[1] for row in _rows(another)["lines"]] == ["new"]


def test_what_is_no_backup_or_exists_is_refused(database: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="this is no backup"):
        backup.restore(tmp_path, tmp_path / "artifacts")
    (tmp_path / "manifest.json").write_text('{"schema": 1}')
    with pytest.raises(InvalidInput, match=r"this is no backup \(manifest.json is not ours\)"):
        backup.restore(tmp_path, tmp_path / "artifacts")
    with pytest.raises(InvalidInput, match="it exists; name a new folder"):
        backup.backup(tmp_path, tmp_path / "artifacts")


def test_a_full_disk_leaves_nothing_behind(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __init__(self, file: Path, *_: object, **__: object) -> None:
            file.touch()

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def write(self, _: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with transaction() as session:
        empty(session)
        lines.put(session, "main", LineConfig(base_model="hub/one"))
    monkeypatch.setattr(gzip, "open", Full)
    with pytest.raises(DiskFull, match="saved: no room left on its disk"):
        backup.backup(tmp_path / "saved", tmp_path / "artifacts")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_password_is_said_and_not_shown(database: str, tmp_path: Path) -> None:
    parts = urlsplit(database)
    wrong = urlunsplit(parts._replace(netloc=f"{parts.username}:not-the-one@{parts.hostname}:{parts.port}"))
    done = _rlfleet({"DATABASE_URL": wrong}, "backup", str(tmp_path / "saved"))
    assert done.returncode == 1
    assert "password authentication failed" in done.stderr
    assert "not-the-one" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_restore_drill(folder: Path) -> None:
    """From a fleet's home to a fresh one on another path, and on from there."""
    here, there = ({"RLFLEET_HOME": str(folder / name)} for name in ("here", "there"))
    with _running(here) as endpoints:
        migrate()
        base = Path(_weights(folder / "base", "base"))
        ids = _fill(folder / "here" / "artifacts", base)
        before = _rows(endpoints.database_url)
        made = _rlfleet(here, "backup", str(folder / "saved"))  # while the servers run
        assert made.returncode == 0, made.stderr
    again = _rlfleet(here, "backup", str(folder / "saved-again"))  # and with servers of its own
    assert again.returncode == 0, again.stderr
    assert "3 folders" in again.stdout
    done = _rlfleet(there, "restore", str(folder / "saved"))
    assert done.returncode == 0, done.stderr
    refused = _rlfleet(there, "restore", str(folder / "saved"))
    assert (refused.returncode, "has rows" in refused.stderr) == (2, True)
    with _running(there) as endpoints:
        expected = _moved(before, folder / "here" / "artifacts", folder / "there" / "artifacts")
        assert _rows(endpoints.database_url) == expected
        assert _hashes(folder / "there" / "artifacts") == _hashes(folder / "here" / "artifacts")
        urls = {"DATABASE_URL": endpoints.database_url, "REDIS_URL": endpoints.redis_url}
        reconciled = _rlfleet(there | urls, "reconcile", "--once")
        assert reconciled.stdout.startswith("took back 1, rang 2"), reconciled.stderr
        with redis.Redis.from_url(endpoints.redis_url) as broker:
            assert broker.llen("rlfleet:score") == 2
        (held,) = [row for row in _jobs(endpoints.database_url) if row[0] == ids["held"]]
        assert held[1:] == ("queued", 1, "the lease ran out")
        rung = {row[0] for row in _jobs(endpoints.database_url, "sends = 1")}
        # Where the pass takes more than a second, the back-off of the held one is over too, and it is older.
        assert len(rung) == 2
        assert rung <= {ids["held"], ids["first"], ids["second"]}


@pytest.mark.slow
@pytest.mark.platform
@pytest.mark.skipif(OLD_POSTGRES is None, reason="no older Postgres: apt-get install postgresql")
def test_another_major_version_takes_over(folder: Path) -> None:
    """As the message of the refused start says: back up with the old programs, move the data, restore."""
    assert OLD_POSTGRES is not None
    home = {"RLFLEET_HOME": str(folder / "home")}
    old = home | {"PG_BIN": str(OLD_POSTGRES)}
    with _running(old) as endpoints:
        migrate()
        _fill(folder / "home" / "artifacts", Path(_weights(folder / "base", "base")))
        before = _rows(endpoints.database_url)
    refused = _rlfleet(home, "backup", str(folder / "saved"))
    assert refused.returncode == 1
    assert "run `rlfleet backup FOLDER` with PG_BIN set like that, move the old data away" in refused.stderr
    made = _rlfleet(old, "backup", str(folder / "saved"))
    assert made.returncode == 0, made.stderr
    major = OLD_POSTGRES.parent.name
    (folder / "home" / "pg" / major).rename(folder / f"pg-{major}")
    done = _rlfleet(home, "restore", str(folder / "saved"))
    assert done.returncode == 0, done.stderr
    with _running(home) as endpoints:
        assert _rows(endpoints.database_url) == before


def _jobs(url: str, where: str = "true") -> list[tuple[Any, ...]]:
    connection = psycopg2.connect(url.replace("+psycopg2", ""))
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(f"select id, state, attempt, error from rlfleet.jobs where {where}")  # noqa: S608 - our own
            return list(cursor.fetchall())
    finally:
        connection.close()


def _head() -> str:
    from alembic.script import ScriptDirectory

    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    assert head
    return head
