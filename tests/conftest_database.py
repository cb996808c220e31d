"""A real Postgres for tests, and rows to begin with.

A folder's conftest.py says ``from tests.conftest_database import database, database_url, postgres_url``; its tests
ask for ``database``. The server is the one in DATABASE_URL, else our own embedded one, started when first asked for.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest
from sqlalchemy import text, update
from sqlalchemy.orm import Session

from db import decisions, dispatch, lines, partitions, releases, versions
from db import session as db_session
from db import settings as db_settings
from db.migrate import migrate
from db.tables import Base, Checkpoint, Line, Version
from rl.config import LineConfig

__all__ = ["database", "database_url", "postgres_url"]


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a server on which tests may create databases."""
    if given := os.environ.get("DATABASE_URL"):
        yield given
        return
    from fleet.home import Home
    from fleet.servers import Servers

    folder = Path(tempfile.mkdtemp(prefix="rlfleet-test-"))
    folder.chmod(0o711)
    home = folder / "home"
    environ = {"PATH": os.environ["PATH"], "RLFLEET_HOME": str(home)}
    with Home.open(environ) as opened:
        servers = Servers(opened, environ)
        try:
            url = servers.start().database_url
            # No test cuts the power: what a killed server had written is still there, and a busy disk is no part of it.
            _execute(url, "alter system set fsync = off")
            _execute(url, "select pg_reload_conf()")
            yield url
        finally:
            servers.stop()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def database_url(postgres_url: str) -> Iterator[str]:
    """The URL of an empty database of our own on that server, dropped at the end."""
    name = f"test_{os.getpid()}_{secrets.token_hex(4)}"
    _execute(postgres_url, f"create database {name}")
    try:
        yield urlunsplit(urlsplit(_plain(postgres_url))._replace(path=f"/{name}"))
    finally:
        _execute(postgres_url, f"drop database if exists {name} with (force)")


@pytest.fixture(scope="module")
def database(database_url: str) -> Iterator[str]:
    """``database_url`` with the newest schema, as the one that ``db`` speaks to while the module's tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", database_url)
        _forget()
        migrate()
        yield database_url
        db_session.engine().dispose()
    _forget()


def _forget() -> None:
    db_settings.settings.cache_clear()
    db_session._engine.cache_clear()


def _plain(url: str) -> str:
    return "postgresql://" + url.split("://", 1)[1]


def _execute(url: str, statement: str) -> None:
    with db_session.waiting(600):  # it ends with a checkpoint, which a busy disk makes long
        connection = psycopg2.connect(_plain(url))
        try:
            connection.autocommit = True
            connection.cursor().execute(statement)
        finally:
            connection.close()


def add_line(session: Session, name: str = "main", base_model: str = "random-qwen3") -> Line:
    """A line without versions."""
    lines.put(session, name, LineConfig(base_model=base_model))
    return lines.named(session, name)


def add_version(session: Session, line: Line, state: str = "ready", prefix: str = "babylon-agent") -> Version:
    """The line's next version, in ``state``; its checkpoint is at /checkpoints/<name>."""
    job = dispatch.Spec("train", line.id, inputs={"n": secrets.token_hex(4)}, config={}, queue="gpu")
    checkpoint = versions.NewCheckpoint(1, "adapter", "", "/base", "0" * 64, {})
    version = versions.add(
        session,
        line=line,
        prefix=prefix,
        job_id=dispatch.request(session, job),
        fence=1,
        checkpoints=[checkpoint],
        parent_id=None,
        base_model="random-qwen3",
        manifest={},
    )
    session.execute(
        update(Checkpoint).where(Checkpoint.id == version.checkpoint_id).values(uri=f"/checkpoints/{version.name}")
    )
    versions.set_state(session, [version.id], state, "set by a test")
    return version


def released(
    session: Session, line_id: int, version_id: int, share: int = 100, reason: str = "released by a test"
) -> int:
    """Make the version, which is ``ready``, the line's stable one. Returns the release's id."""
    decision_id = decisions.by_person(session, line_id, version_id, reason, "a test")
    return releases.replace_stable(session, line_id, version_id, decision_id, share, reason)


def empty(session: Session) -> None:
    """Take every row away. Partitions that tests write to are made first: none can be while this holds its locks.

    Rows of the last day are of two weeks on a Monday.
    """
    now = datetime.now(UTC)
    partitions.ensure([datetime(2025, 1, 15, tzinfo=UTC), now - timedelta(days=1), now])
    names = ", ".join(str(table) for table in Base.metadata.sorted_tables)
    session.execute(text(f"truncate {names} restart identity cascade"))
