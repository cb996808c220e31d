"""A real Postgres for tests: `from tests.conftest_database import *` in a folder's conftest.py, then ask for `database`.

The server is the one in DATABASE_URL, else our own embedded one, started once a session.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest

from db import session as db_session
from db import settings as db_settings
from db.migrate import migrate

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
            yield servers.start().database_url
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
    connection = psycopg2.connect(_plain(url))
    try:
        connection.autocommit = True
        connection.cursor().execute(statement)
    finally:
        connection.close()
