"""How the roles come to be: by whoever migrates, by an administrator beside them, for several databases at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from alembic import command
from sqlalchemy import text

from db import backup, partitions
from db.migrate import alembic_config, migrate, revision
from db.session import engine, transaction
from fleet.home import Home
from fleet.servers import Servers
from rl.errors import DatabaseRefused
from tests.conftest_database import _execute, add_line
from tests.conftest_roles import login, member_of, speaking
from tests.db.test_roles_again import NEW, OLD, as_older_code, database_on, partition_owners
from tests.tls_postgres import secured

ROOT = Path(__file__).parents[2]
ROLES = ("rlfleet_migrate", "rlfleet_worker", "rlfleet_admin", "rlfleet_gateway", "rlfleet_viewer")
OWNERS = text("""
    select distinct pg_get_userbyid(relowner) from pg_class
     where relnamespace = 'rlfleet'::regnamespace and relkind in ('r', 'p', 'v')
     union select pg_get_userbyid(nspowner) from pg_namespace where nspname = 'rlfleet'
     union select pg_get_userbyid(proowner) from pg_proc where pronamespace = 'rlfleet'::regnamespace
""")


@pytest.fixture
def several(postgres_url: str) -> Iterator[list[str]]:
    """Empty databases of one cluster, which may have the roles of another test."""
    with ExitStack() as stack:
        server = "postgresql://" + postgres_url.split("://", 1)[1]
        yield [stack.enter_context(database_on(server)) for _ in range(3)]


def owners() -> set[str]:
    with transaction() as session:
        return set(session.scalars(OWNERS))


def test_the_way_down_and_up_again_as_a_member(several: list[str]) -> None:
    with speaking(several[0]):
        migrate()
    with member_of(several[0], "rlfleet_migrate"):
        command.downgrade(alembic_config(), "0011")
        partitions.forget()
        command.downgrade(alembic_config(), "base")
        migrate()
        assert revision().is_newest
        assert owners() == {"rlfleet_migrate"}
    with member_of(several[0], "rlfleet_worker"), transaction() as session:
        add_line(session)


def test_an_owner_who_may_make_roles_needs_no_superuser(several: list[str]) -> None:
    """As the first login of a managed Postgres. The roles are of its own making, as far as it can tell."""
    (url, *_) = several
    with login(url, options="createrole") as owner:
        name = urlsplit(owner).username
        _execute(url, f"alter database {urlsplit(url).path[1:]} owner to {name}")
        for role in ROLES:
            _execute(
                url,
                f"do $$ begin if exists (select from pg_roles where rolname = '{role}') then "
                f"grant {role} to {name} with admin option; end if; end $$",
            )
        with speaking(owner):
            migrate()
            assert owners() == {"rlfleet_migrate"}
            partitions.ensure([partitions.FIRST + partitions.WEEK])
            migrate()
        with member_of(url, "rlfleet_worker"), transaction() as session:
            add_line(session)
        _execute(url, f"alter database {urlsplit(url).path[1:]} owner to current_user")


def test_who_may_not_make_roles_goes_on_without_until_somebody_does(
    several: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    (url, *_) = several
    with login(url) as owner:
        name = urlsplit(owner).username
        _execute(url, f"grant create on database {urlsplit(url).path[1:]} to {name}")
        with speaking(owner):
            migrate()
            assert owners() == {name}
            assert "as the roles got none: must be" in caplog.text
            with transaction() as session:
                add_line(session)
            partitions.ensure([partitions.FIRST + partitions.WEEK])
            migrate()
        # What the page tells an administrator to do.
        _execute(url, f"grant rlfleet_migrate to {name}")
        with speaking(owner):
            migrate()
            assert owners() == {"rlfleet_migrate"}
            partitions.ensure([partitions.FIRST + 2 * partitions.WEEK])
            caplog.clear()
            migrate()
            assert caplog.text == ""
        with member_of(url, "rlfleet_worker"), transaction() as session:
            assert list(session.scalars(text("select name from rlfleet.lines"))) == ["main"]
        _execute(url, f"revoke create on database {urlsplit(url).path[1:]} from {name}")


def test_nobody_drops_a_partition_by_another_login_where_the_roles_got_no_rights(several: list[str]) -> None:
    (url, *_) = several
    with login(url) as owner, login(url) as reader:
        _execute(url, f"grant create on database {urlsplit(url).path[1:]} to {urlsplit(owner).username}")
        with speaking(owner):
            migrate()
            partitions.ensure([partitions.FIRST + partitions.WEEK])
            with transaction() as session:
                session.execute(text(f"grant usage on schema rlfleet to {urlsplit(reader).username}"))
        refused = pytest.raises(DatabaseRefused, match="must be owner of table calls")
        with speaking(reader), refused, transaction() as session:
            session.execute(text("select rlfleet.drop_partition('calls_2000w01')"))


def test_an_administrator_may_run_what_the_module_prints(several: list[str]) -> None:
    (url, *_) = several
    printed = subprocess.run([sys.executable, "-m", "db.roles"], cwd=ROOT, check=True, capture_output=True, text=True)
    with login(url) as owner:
        _execute(url, f"grant create on database {urlsplit(url).path[1:]} to {urlsplit(owner).username}")
        for command_line in (
            [sys.executable, "-m", "db.migrate"],
            [sys.executable, "-m", "fleet", "migrate", "--json"],
        ):
            environ = os.environ | {"DATABASE_URL": owner, "PYTHONPATH": str(ROOT)}
            said = subprocess.run(command_line, cwd=ROOT, env=environ, check=True, capture_output=True, text=True)
            assert "as the roles got none: must be" in said.stderr
        _execute(url, printed.stdout)
    with member_of(url, "rlfleet_worker"), transaction() as session:
        add_line(session)
    with speaking(url):
        assert owners() == {"rlfleet_migrate"}


def test_who_may_not_make_roles_that_are_not_there_is_told_so(
    several: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    (url, elsewhere, _) = several
    with speaking(elsewhere):
        migrate()
    with login(url) as owner:
        _execute(url, f"grant create on database {urlsplit(url).path[1:]} to {urlsplit(owner).username}")
        _execute(url, "alter role rlfleet_viewer rename to rlfleet_viewer_elsewhere")
        try:
            with speaking(owner):
                migrate()
        finally:
            _execute(url, "alter role rlfleet_viewer_elsewhere rename to rlfleet_viewer")
        assert "as the roles got none: permission denied to create role (docs/perimeter.md)" in caplog.text


def test_what_the_admin_role_saves_a_member_restores(several: list[str], tmp_path: Path) -> None:
    there, elsewhere, _ = several
    for url in (there, elsewhere):
        with speaking(url):
            migrate()
    with member_of(there, "rlfleet_admin"):
        with transaction() as session:
            add_line(session)
        partitions.ensure([partitions.FIRST + partitions.WEEK])
        dumped = backup.dump(lambda name: (tmp_path / name).open("wb"))
    with member_of(elsewhere, "rlfleet_migrate"):
        backup.load(dumped, lambda name: (tmp_path / name).open("rb"))
        assert owners() == {"rlfleet_migrate"}
        engine().dispose()
    with member_of(elsewhere, "rlfleet_viewer"), transaction() as session:
        assert list(session.scalars(text("select name from rlfleet.lines"))) == ["main"]


@contextmanager
def of_the_wheels() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="rlfleet-test-"))
    folder.chmod(0o711)
    environ = {"PATH": os.environ["PATH"], "RLFLEET_HOME": str(folder / "home")}
    with Home.open(environ) as home:
        servers = Servers(home, environ)
        try:
            yield servers.start().database_url
        finally:
            servers.stop()
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def of_the_system() -> Iterator[str]:
    with secured() as made:
        yield made.url


def test_several_databases_of_a_server_without_the_roles_may_be_migrated_at_once() -> None:
    argv = [sys.executable, "-m", "db.migrate"]
    with of_the_wheels() as server, ExitStack() as stack:
        several = [stack.enter_context(database_on(server)) for _ in range(3)]
        environs = [os.environ | {"DATABASE_URL": url, "PYTHONPATH": str(ROOT)} for url in several]
        starts = [subprocess.Popen(argv, cwd=ROOT, env=one, stderr=subprocess.PIPE, text=True) for one in environs]
        said = [start.communicate(timeout=120)[1] for start in starts]
        assert [start.returncode for start in starts] == [0] * len(several), said
        for url in several:
            with speaking(url):
                assert owners() == {"rlfleet_migrate"}


@pytest.mark.parametrize("new", [of_the_wheels, of_the_system])
def test_the_first_revision_of_a_server_needs_no_superuser(new: Callable[[], AbstractContextManager[str]]) -> None:
    """It has none of the roles."""
    with new() as server, database_on(server) as url:
        _execute(url, "create role owner login password 'pw' createrole")
        _execute(url, f"alter database {urlsplit(url).path[1:]} owner to owner")
        parts = urlsplit(url)
        with speaking(urlunsplit(parts._replace(netloc=f"owner:pw@{parts.hostname}:{parts.port}"))):
            migrate()
            as_older_code(OLD)
            migrate()
            assert partition_owners() == {"rlfleet_migrate"}
        with member_of(url, "rlfleet_worker"):
            partitions.ensure([NEW])
            with transaction() as session:
                add_line(session)
