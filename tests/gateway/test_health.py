from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2

from tests.gateway.conftest import World
from tests.gateway.test_completions import VERSION, ask, problem


@contextmanager
def out_of_reach(postgres_url: str, database_url: str) -> Iterator[None]:
    """The database refuses connections, and those it had are cut."""
    name = database_url.rsplit("/", 1)[1]
    connection = psycopg2.connect("postgresql://" + postgres_url.split("://", 1)[1])
    connection.autocommit = True
    cursor = connection.cursor()
    try:
        cursor.execute(f"alter database {name} allow_connections false")
        cursor.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])
        yield
    finally:
        cursor.execute(f"alter database {name} allow_connections true")
        connection.close()


def test_health_tells_the_truth_about_the_engine(world: World) -> None:
    gateway = world.gateway(RLFLEET_GATEWAY_KEYS="key")
    assert (gateway.get("/health").status_code, gateway.get("/health").json()) == (
        503,
        {"status": "unavailable", "database": "ok", "engine": "none has announced itself; start a GPU worker"},
    )

    engine = world.engine("cpu@test")
    assert (gateway.get("/health").status_code, gateway.get("/health").json()) == (
        200,
        {"status": "ok", "database": "ok", "engine": "ok"},
    )

    engine.is_draining = True
    assert gateway.get("/health").json()["engine"] == "cpu@test does not answer"
    assert gateway.get("/health").status_code == 503


def test_without_the_database_nothing_is_answered_and_health_says_so(
    world: World, postgres_url: str, database_url: str
) -> None:
    engine = world.engine()
    world.release(0)
    gateway, careless = world.gateway(), world.gateway(RLFLEET_CAPTURE="off")
    assert ask(careless).status_code == ask(gateway, Call="before").status_code == 200

    with out_of_reach(postgres_url, database_url):
        response = ask(gateway, Call="lost")
        assert problem(response)[:2] == (503, "database_unavailable")
        assert response.headers["Retry-After"] == "2"
        assert gateway.get("/health").json() == {
            "status": "unavailable",
            "database": "does not answer",
            "engine": "unknown, because the database does not answer",
        }
        assert ask(careless).headers[VERSION] == world.names[0]

    assert ask(gateway, Call="lost").status_code == 200
    assert gateway.get("/health").status_code == 200
    assert {call.call_id for call in world.calls()} == {"before", "lost"}
    assert len(engine.asked) >= 4
