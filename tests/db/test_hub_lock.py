from __future__ import annotations

import pytest
from sqlalchemy import text

from db import hub_lock
from db.session import transaction
from rl.errors import DatabaseUnavailable, Later

pytestmark = pytest.mark.usefixtures("fresh")

REPO = "acme/agent"


def holder(repository: str = REPO) -> str | None:
    with transaction() as session:
        return hub_lock.holder(session, repository)


def test_one_holds_a_repository_and_the_next_is_told_who() -> None:
    with hub_lock.alone(REPO, "v1.0.0 by ann@host") as look:
        look()
        with hub_lock.alone("acme/other", "v1.0.0 by bob@host"):
            said = holder()
            assert said is not None
            assert said.startswith("v1.0.0 by ann@host (since 20")
        with pytest.raises(Later) as taken, hub_lock.alone("Acme/Agent", "bob@host"):
            pass
        assert str(taken.value).startswith("Acme/Agent: another publication goes there: v1.0.0 by ann@host (since ")
        look()
        assert holder("acme/other") is None
    assert holder() is None
    with hub_lock.alone(REPO, "bob@host"):
        pass


def test_it_is_let_go_where_the_block_breaks() -> None:
    with pytest.raises(ZeroDivisionError), hub_lock.alone(REPO, "ann@host"):
        raise ZeroDivisionError
    assert holder() is None


def test_a_long_name_is_cut() -> None:
    with hub_lock.alone(REPO, "a" * 62 + "\u00e9 and more"):
        assert (holder() or "").startswith("a" * 62 + " (since ")


def test_who_lost_the_connection_is_told_at_the_next_look() -> None:
    with hub_lock.alone(REPO, "ann@host") as look:
        with transaction() as session:
            session.execute(
                text(
                    "select pg_terminate_backend(pid, 30000) from pg_stat_activity "
                    "where application_name = 'ann@host' and datname = current_database()"
                )
            )
        assert holder() is None
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable, match="acme/agent: the connection to the database is lost"):
                look()
