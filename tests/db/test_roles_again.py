"""Revisions on a database that older code goes on writing to, and on a server that has none of the roles yet."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text

from db import migrate as db_migrate
from db import partitions
from db.migrate import alembic_config, migrate, revision
from db.session import transaction
from rl.errors import InvalidSettings
from tests.conftest_database import _execute, add_line
from tests.conftest_roles import login, member_of, speaking
from tests.tls_postgres import Secured, secured

OLD, NEW = datetime(2025, 1, 15, tzinfo=UTC), datetime(2025, 1, 22, tzinfo=UTC)
PARTITION_OWNERS = text("""
    select distinct pg_get_userbyid(relowner) from pg_class
     where relnamespace = 'rlfleet'::regnamespace and relispartition and relkind = 'r'
""")
LATER = """
from alembic import op
revision, down_revision, branch_labels, depends_on = "9999", "{newest}", None, None
def upgrade():
    op.execute("alter table rlfleet.calls add later int")
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Secured]:
    """The server of the system, which is another version than that of the wheels."""
    with secured() as made:
        yield made


@contextmanager
def database_on(server: str) -> Iterator[str]:
    name = f"test_{os.getpid()}_{secrets.token_hex(4)}"
    _execute(server, f"create database {name}")
    try:
        yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    finally:
        _execute(server, f"drop database {name} with (force)")


@pytest.fixture(params=["wheels", "system"])
def empty(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database on either server."""
    if request.param == "wheels":
        url = "postgresql://" + str(request.getfixturevalue("postgres_url")).split("://", 1)[1]
    else:
        url = f"{request.getfixturevalue('server').url}"
    with database_on(url) as made:
        yield made


@contextmanager
def owning(url: str) -> Iterator[str]:
    """A login that owns the database and may make roles, as the first one of a managed Postgres; no superuser."""
    database = urlsplit(url).path[1:]
    with login(url, options="createrole") as owner:
        name = urlsplit(owner).username
        _execute(url, f"alter database {database} owner to {name}")
        for role in ("rlfleet_migrate", "rlfleet_worker", "rlfleet_admin", "rlfleet_gateway", "rlfleet_viewer"):
            _execute(
                url,
                f"do $$ begin if exists (select from pg_roles where rolname = '{role}') then "
                f"grant {role} to {name} with admin option; end if; end $$",
            )
        try:
            yield owner
        finally:
            _execute(url, f"alter database {database} owner to current_user")
            # The roles of a server of its own were made, and granted, by this login.
            _execute(url, f"reassign owned by {name} to current_user")


def as_older_code(moment: datetime) -> None:
    """What code before 0012 does before it writes rows of a week."""
    with transaction() as session:
        for table in partitions.PARTITIONED:
            for statement in partitions.statements(partitions.name_of(table, moment), "0011"):
                session.execute(text(statement))


def partition_owners() -> set[str]:
    with transaction() as session:
        return set(session.scalars(PARTITION_OWNERS))


def a_later_revision(folder: Path, patch: pytest.MonkeyPatch) -> None:
    (folder / "later.py").write_text(LATER.format(newest=db_migrate.newest()))
    versions = Path(db_migrate.__file__).parent / "migrations" / "versions"

    def config() -> Config:
        made = alembic_config()
        made.set_main_option("version_locations", f"{versions}{os.pathsep}{folder}")
        return made

    patch.setattr(db_migrate, "alembic_config", config)


@pytest.mark.parametrize("is_superuser", [True, False])
def test_a_partition_of_older_code_does_not_keep_the_next_revision_away(
    empty: str, is_superuser: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with owning(empty) as owner:
        url = empty if is_superuser else owner
        with speaking(url):
            migrate()
            as_older_code(OLD)
            assert len(partition_owners()) == 1
            assert partition_owners() != {"rlfleet_migrate"}
            a_later_revision(tmp_path, monkeypatch)
            migrate()
            assert partition_owners() == {"rlfleet_migrate"}
            with transaction() as session:
                session.execute(text("select later from rlfleet.calls_2025w03"))
        with member_of(empty, "rlfleet_worker"), transaction() as session:
            session.execute(text("select later from rlfleet.calls_2025w03"))  # as a backup reads it


def test_a_partition_that_a_login_may_not_give_away_is_named(
    empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with speaking(empty):
        migrate()
        as_older_code(OLD)
        with transaction() as session:
            before = session.scalar(text("select version_num from rlfleet.alembic_version"))
    a_later_revision(tmp_path, monkeypatch)
    refused = pytest.raises(InvalidSettings, match=r"must be owner of table calls_2025w03: migrate as .*who owns what")
    with member_of(empty, "rlfleet_migrate"), refused:
        migrate()
    with speaking(empty):
        with transaction() as session:
            assert session.scalar(text("select version_num from rlfleet.alembic_version")) == before
        migrate()
        assert partition_owners() == {"rlfleet_migrate"}


@pytest.mark.parametrize("is_superuser", [True, False])
def test_the_way_down_and_up_with_older_code_in_between(empty: str, is_superuser: bool) -> None:
    with owning(empty) as owner:
        with speaking(empty if is_superuser else owner):
            migrate()
            command.downgrade(alembic_config(), "0011")
            with transaction() as session:
                add_line(session)
                assert session.scalar(text("select count(*) from pg_default_acl")) == 0
            as_older_code(OLD)
            migrate()
            assert revision().is_newest
            assert partition_owners() == {"rlfleet_migrate"}
        with member_of(empty, "rlfleet_worker"):
            partitions.ensure([NEW])
            with transaction() as session:
                assert list(session.scalars(text("select name from rlfleet.lines"))) == ["main"]
                session.execute(text("select * from rlfleet.calls_2025w03, rlfleet.calls_2025w04"))


def test_what_would_take_the_rights_of_workers_away_is_refused(empty: str) -> None:
    with speaking(empty):
        migrate()
        command.downgrade(alembic_config(), "0011")
        as_older_code(OLD)
    refused = pytest.raises(InvalidSettings, match=r"must be owner of table calls_2025w03: .*nothing was changed")
    with member_of(empty, "rlfleet_migrate"), refused:
        migrate()
    with speaking(empty):
        assert revision().current == "0011"
        migrate()
    with member_of(empty, "rlfleet_worker"):
        partitions.ensure([NEW])


def test_a_role_of_ones_own_keeps_its_rights_and_a_revoke_from_ours_ends(
    empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = f"figures_{secrets.token_hex(4)}"
    _execute(empty, f"create role {figures} nologin")
    with speaking(empty):
        migrate()
        _execute(empty, f"grant usage on schema rlfleet to {figures}")
        _execute(empty, f"grant select on rlfleet.jobs to {figures}")
        _execute(empty, "revoke select on rlfleet.calls from rlfleet_viewer")
        migrate()
        assert may_select("rlfleet_viewer") == {"jobs"}
        a_later_revision(tmp_path, monkeypatch)
        migrate()
        assert may_select("rlfleet_viewer") == {"calls", "jobs"}
        assert may_select(figures) == {"jobs"}
    _execute(empty, f"drop owned by {figures}")
    _execute(empty, f"drop role {figures}")


def may_select(role: str) -> set[str]:
    query = text("""
        select relname from pg_class where oid in (to_regclass('rlfleet.calls'), to_regclass('rlfleet.jobs'))
           and has_table_privilege(:role, oid, 'select')
    """)
    with transaction() as session:
        return set(session.scalars(query, {"role": role}))


PLANTED = """
create function rlfleet.{name} returns text language plpgsql as $$
begin
    reset role;
    execute 'alter role {login} superuser';
    return null;
end $$
"""


def test_a_function_of_who_migrates_gives_nobody_rights(
    empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the names of what the statements of a superuser call, in a schema that is called like the superuser."""
    with speaking(empty):
        migrate()
        command.downgrade(alembic_config(), "0011")
    with login(empty, "rlfleet_migrate") as member:
        name = urlsplit(member).username
        with speaking(member), transaction() as session:
            session.execute(text("set local role rlfleet_migrate"))
            for one in ("grant_roles()", "format(text, name)", "pg_advisory_xact_lock(int)", "pg_has_role(oid, text)"):
                session.execute(text(PLANTED.format(name=one, login=name)))
        with speaking(empty):
            migrate()
            with transaction() as session:
                query = text("select rolsuper from pg_roles where rolname = :name")
                assert session.scalar(query, {"name": name}) is False


BOUND = text("select pg_get_expr(relpartbound, oid) from pg_class where relname = :name")


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "Europe/Berlin"])
def test_no_setting_of_who_calls_moves_a_week(empty: str, zone: str) -> None:
    """Berlin's clocks are turned forward in the week."""
    with speaking(empty):
        migrate()
    with member_of(empty, "rlfleet_worker"), transaction() as session:
        for setting in (f"timezone = '{zone}'", "datestyle = 'SQL, DMY'", "intervalstyle = 'sql_standard'"):
            session.execute(text(f"set local {setting}"))
        session.execute(text("select rlfleet.make_partition('calls_2025w13')"))
        session.execute(text("set local timezone = 'UTC'"))
        session.execute(text("set local datestyle = 'ISO'"))
        bound = "FOR VALUES FROM ('2025-03-24 00:00:00+00') TO ('2025-03-31 00:00:00+00')"
        assert session.scalar(BOUND, {"name": "calls_2025w13"}) == bound
