"""The role of the admin server: what it may do, and how it comes to databases that were without it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from urllib.parse import urlsplit, urlunsplit

import pytest
from alembic import command
from sqlalchemy import text

from db import audit, sessions, tokens
from db.migrate import alembic_config, migrate, revision
from db.session import transaction
from rl.errors import DatabaseRefused, InvalidSettings
from tests.conftest_database import _execute
from tests.conftest_roles import login, member_of, speaking
from tests.db.test_roles_again import database_on
from tests.db.test_roles_made import of_the_system, of_the_wheels


def let_in() -> str:
    """A person gets a token, signs in and out, and loses it, as the admin server and the shell do it; who it was."""
    with transaction() as session:
        given = tokens.create(session, "olga", "operator", "a test")
        holder = tokens.holder_of(session, given)
        assert holder is not None
        value = sessions.start(session, holder.token_id)
        found = sessions.holder_of(session, value)
        assert found is not None
        assert sessions.end(session, value)
        assert tokens.revoke(session, found.name)
        audit.note(session, found.name, "left", "the test", "done", token_id=found.token_id)
        assert {one.name for one in tokens.listing(session)} == {"olga"}
        return audit.listing(session)[0].actor


def noted() -> None:
    with transaction() as session:
        audit.note(session, "a worker", "publish", "v1", "done")


def test_the_admin_role_lets_people_in_and_a_worker_only_notes(fresh: str) -> None:
    with member_of(fresh, "rlfleet_admin"):
        assert let_in() == "olga"
    with member_of(fresh, "rlfleet_worker"):
        noted()
        with pytest.raises(DatabaseRefused, match="permission denied for table tokens"):
            let_in()


def as_of_0012(url: str) -> None:
    command.downgrade(alembic_config(), "0012")
    _execute(url, "drop owned by rlfleet_admin")
    _execute(url, "drop role rlfleet_admin")


MADE = ("create role rlfleet_admin nologin", "grant rlfleet_worker to rlfleet_admin")
"""What the page has an administrator run."""


@pytest.mark.parametrize("new", [of_the_wheels, of_the_system])
def test_a_database_of_0012_gets_the_role(new: Callable[[], AbstractContextManager[str]]) -> None:
    """By who made the others and is no superuser; by a member, once somebody made the role."""
    with new() as server, database_on(server) as url:
        _execute(url, "create role owner login password 'pw' createrole")
        _execute(url, f"alter database {urlsplit(url).path[1:]} owner to owner")
        parts = urlsplit(url)
        owner = urlunsplit(parts._replace(netloc=f"owner:pw@{parts.hostname}:{parts.port}"))
        with speaking(owner):
            migrate()
            as_of_0012(url)
        with login(url, "rlfleet_worker") as worker, login(url, "rlfleet_migrate") as member:
            with speaking(worker):
                assert let_in() == "olga"
            refused = pytest.raises(InvalidSettings, match=r"to create role: .* roles that are missing; nothing was")
            with speaking(member), refused:
                migrate()
            with speaking(worker):
                assert revision().current == "0012"
                with transaction() as session:
                    session.execute(text("delete from rlfleet.audit"))
            with speaking(owner):
                migrate()
            check(url, worker)
            with speaking(member):
                as_of_0012(url)
                for statement in MADE:
                    _execute(url, statement)
                migrate()
            check(url, worker)


def check(url: str, worker: str) -> None:
    with speaking(worker):
        noted()
        with pytest.raises(DatabaseRefused, match="permission denied for table tokens"):
            let_in()
    with member_of(url, "rlfleet_admin"):
        assert revision().is_newest
        assert let_in() == "olga"
