"""The admin server over real HTTP, on real Postgres and a real broker, with a viewer and an operator."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest
from redis import Redis
from sqlalchemy import text

from admin import access, probes
from admin.api import health
from admin.app import create_app
from admin.settings import AdminSettings
from db import sessions, tokens
from db.session import POOL_SECONDS, limit_pool_wait, transaction
from tests.admin.world import Api, empty_but_tokens, serving
from tests.conftest_database import database, database_url, empty, postgres_url
from tests.conftest_redis import point_app_at, redis_url
from tests.gateway.doubles import served
from tests.tasks.conftest import broker

__all__ = ["broker", "database", "database_url", "postgres_url", "redis_url"]

Client = Callable[..., httpx.Client]
BOUNDS = (
    (access, "PATIENCE_SECONDS"),
    (health, "PATIENCE_SECONDS"),
    (probes, "ANSWER_SECONDS"),
    (probes, "DATABASE_SECONDS"),
)
"""What a server gives up after a few seconds, though all is well and the machine is only busy."""
PATIENCE = 60.0


@pytest.fixture(scope="module", autouse=True)
def _patient() -> Iterator[None]:
    """Servers wait for a machine that is busy, and how long they wait for the pool ends with the module."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in BOUNDS:
            patch.setattr(module, name, PATIENCE)
        yield
    limit_pool_wait(POOL_SECONDS)


def token(name: str, role: tokens.Role) -> str:
    with transaction() as session:
        return tokens.create(session, name, role, "a test")


def signed_in(given: str) -> str:
    """What the cookie holds of a browser that signed in with the token."""
    with transaction() as session:
        holder = tokens.holder_of(session, given)
        assert holder is not None
        return sessions.start(session, holder.token_id)


@pytest.fixture
def fresh(database: str) -> str:
    """The URL of the database, every table of it empty."""
    with transaction() as session:
        empty(session)
        session.execute(text("truncate rlfleet.tokens, rlfleet.audit restart identity cascade"))
    return database


@pytest.fixture(scope="module")
def served_api(database: str, broker: object) -> Iterator[Api]:
    """A server that the module's tests share."""
    with serving() as made:
        yield made


@pytest.fixture
def api(served_api: Api, broker: Redis) -> Api:
    """The same on empty tables, with no message waiting; the tokens stay."""
    empty_but_tokens()
    broker.flushdb()
    return served_api


@pytest.fixture
def broker_away(broker: Redis, redis_url: str) -> Iterator[None]:
    """The app publishes to where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        point_app_at(f"redis://:secret@127.0.0.1:{held.getsockname()[1]}/0")
        yield
        point_app_at(redis_url)


@pytest.fixture
def server(fresh: str, broker: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server with settings that no variable of this shell changes."""
    for field in AdminSettings.model_fields.values():
        monkeypatch.delenv(str(field.validation_alias), raising=False)
    with served(create_app(AdminSettings(RLFLEET_ADMIN_RATE="1000")), proxy_headers=False) as url:
        yield url


@pytest.fixture
def client(server: str) -> Iterator[Client]:
    """Makes clients: without a token, or with the one that is given."""
    with ExitStack() as stack:

        def make(given: str | None = None) -> httpx.Client:
            headers = {} if given is None else {"Authorization": f"Bearer {given}"}
            made = httpx.Client(base_url=server, headers=headers, trust_env=False, timeout=30)
            return stack.enter_context(made)

        yield make


@pytest.fixture
def viewer(client: Client) -> httpx.Client:
    return client(token("vera", "viewer"))


@pytest.fixture
def operator(client: Client) -> httpx.Client:
    return client(token("otto", "operator"))
