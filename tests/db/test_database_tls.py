"""``DATABASE_URL`` with TLS, wherever it is used; other authorities, other names and no TLS are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from db import backup, foreign, partitions
from db.migrate import migrate, revision
from db.session import transaction
from fleet import external
from fleet.doctor import servers
from rl.errors import DatabaseUnavailable
from tests.certificates import signed
from tests.conftest_database import add_line
from tests.conftest_roles import speaking
from tests.tls_postgres import Secured, secured

ROOT = Path(__file__).parents[2]
SSL = text("select ssl, version from pg_stat_ssl where pid = pg_backend_pid()")


@pytest.fixture(scope="module")
def server() -> Iterator[Secured]:
    with secured() as made:
        yield made


def test_everything_that_speaks_to_the_database_speaks_tls(server: Secured, tmp_path: Path) -> None:
    url = server.verified()
    external.check_postgres(url)
    with speaking(url):
        migrate()
        assert revision().is_newest
        partitions.ensure([datetime(2025, 1, 15, tzinfo=UTC)])
        with transaction() as session:
            add_line(session)
            assert session.execute(SSL).one().ssl
        dumped = backup.dump(lambda name: (tmp_path / name).open("wb"))
        with transaction() as session:
            session.execute(text("truncate rlfleet.lines cascade"))
        backup.load(dumped, lambda name: (tmp_path / name).open("rb"))
        with transaction() as session:
            assert list(session.scalars(text("select name from rlfleet.lines"))) == ["main"]
        found = {one.check: one.level for one in servers.look({"DATABASE_URL": url})}
        assert (found["database"], found["schema"]) == ("ok", "ok")
        with foreign.snapshot(url) as door:
            assert door is not None
    environ = os.environ | {"DATABASE_URL": url, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "db.migrate"], cwd=ROOT, env=environ, check=False)
    assert done.returncode == 0


def refusal(url: str) -> str:
    with speaking(url), pytest.raises(DatabaseUnavailable) as said, transaction() as session:
        session.execute(text("select 1"))
    with speaking(url), pytest.raises(DatabaseUnavailable), transaction():
        backup.check_empty("0012")
    return str(said.value)


def test_a_certificate_of_another_authority_is_refused(server: Secured, tmp_path: Path) -> None:
    other = signed(tmp_path)
    said = refusal(server.verified(authority=other.authority))
    assert "certificate verify failed" in said
    assert "s3cret" not in said


def test_an_authority_that_is_not_there_is_said(server: Secured, tmp_path: Path) -> None:
    said = refusal(server.verified(authority=tmp_path / "none.pem"))
    assert f'root certificate file "{tmp_path / "none.pem"}" does not exist' in said


def test_a_server_that_only_speaks_tls_is_not_spoken_to_without(server: Secured) -> None:
    assert "no encryption" in refusal(f"{server.url}?sslmode=disable")


def test_a_certificate_for_another_name_is_refused() -> None:
    with secured("DNS:elsewhere.example") as server:
        said = refusal(server.verified())
        assert 'server certificate for "elsewhere.example"' in said
        assert 'does not match host name "127.0.0.1"' in said
        with speaking(server.verified("verify-ca")), transaction() as session:
            assert session.execute(SSL).one().ssl


def test_a_server_without_tls_is_refused_where_it_is_asked_for(postgres_url: str) -> None:
    url = "postgresql://" + postgres_url.split("://", 1)[1]
    assert "does not support SSL" in refusal(f"{url}?sslmode=require")


def test_the_doctor_names_the_reason(server: Secured, tmp_path: Path) -> None:
    url = server.verified(authority=signed(tmp_path).authority)
    with speaking(url):
        (found,) = [one for one in servers.look({"DATABASE_URL": url}) if one.check == "database"]
    assert (found.level, "certificate verify failed" in found.words) == ("fail", True)
