from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import text

from db.session import transaction
from gateway.catalog import REFUSED, SECONDS
from tests.gateway.away import out_of_reach
from tests.gateway.conftest import World
from tests.gateway.test_completions import VERSION, ask, problem
from tests.recorder.doubles import wait_until

IDLE = {"mode": "spooled", "waiting": 0, "bytes": 0, "oldest_seconds": 0.0, "refused": 0}


def health(gateway: httpx.Client) -> tuple[int, dict[str, Any]]:
    """Status and body of ``/health``, without the age of the releases and without details."""
    answer = gateway.get("/health")
    body: dict[str, Any] = answer.json()
    assert set(body.pop("releases")) == {"age_seconds"}
    assert all(isinstance(body.pop(name), dict) for name in ("engines", "lines", "breakers"))
    return answer.status_code, body


def test_health_tells_the_truth_about_the_engine(world: World) -> None:
    gateway = world.gateway(RLFLEET_GATEWAY_KEYS="key")
    missing = "none has announced itself; start a GPU worker"
    assert health(gateway) == (503, {"status": "unavailable", "database": "ok", "engine": missing, "capture": IDLE})

    engine = world.engine("cpu@test")
    assert health(gateway) == (200, {"status": "ok", "database": "ok", "engine": "ok", "capture": IDLE})

    engine.is_draining = True
    wait_until(lambda: gateway.get("/health").json()["engine"] == "cpu@test does not answer")
    assert gateway.get("/health").status_code == 503


def test_ready_is_whether_calls_can_be_answered(world: World, postgres_url: str, database_url: str) -> None:
    gateway = world.gateway()
    assert (gateway.get("/ready").status_code, gateway.get("/ready").json()["why"]) == (503, "no engine answers")
    assert world.gateway(UPSTREAM_BASE_URL="http://127.0.0.1:9/v1").get("/ready").status_code == 200

    engine = world.engine("cpu@test")
    wait_until(lambda: gateway.get("/ready").status_code == 200)
    with out_of_reach(postgres_url, database_url):
        wait_until(lambda: gateway.get("/ready").json()["status"] == "degraded")
        assert gateway.get("/ready").status_code == gateway.get("/live").status_code == 200
        assert gateway.get("/health").status_code == 503
        engine.is_draining = True
        wait_until(lambda: gateway.get("/ready").status_code == 503)
        assert gateway.get("/live").status_code == 200


@contextmanager
def without_a_column() -> Iterator[None]:
    """The database refuses to say where engines are, as one does whose migrations are ahead."""
    change = "alter table rlfleet.engines rename column {} to {}"
    with transaction() as session:
        session.execute(text(change.format("url", "address")))
    try:
        yield
    finally:
        with transaction() as session:
            session.execute(text(change.format("address", "url")))


def test_where_the_database_refuses_calls_are_answered_as_was_last_known(world: World) -> None:
    world.engine()
    world.release(0)
    gateway = world.gateway()
    assert ask(gateway).status_code == 200

    with without_a_column():
        wait_until(lambda: gateway.get("/ready").json() == {"status": "degraded", "why": REFUSED})
        until = time.monotonic() + 2.5 * SECONDS  # so that it is read in between
        while time.monotonic() < until:
            assert ask(gateway).headers[VERSION] == world.names[0]
        status, said = health(gateway)
        assert (status, said["database"]) == (503, "refuses what it is asked; the gateway's log says why")

        ignorant = world.gateway()
        assert ask(ignorant).status_code == 500
        assert ignorant.get("/ready").json()["why"] == f"{REFUSED}, and no releases are known"

    wait_until(lambda: gateway.get("/ready").json()["status"] == "ok")


def test_without_the_database_calls_are_answered_as_was_last_known_and_none_is_lost(
    world: World, postgres_url: str, database_url: str
) -> None:
    world.engine()
    world.release(0)
    gateway, strict = world.gateway(), world.gateway(RLFLEET_CAPTURE="required")
    assert ask(gateway, Call="before").status_code == ask(strict, Call="strict").status_code == 200
    spooled = {"X-Capture": ""}

    with out_of_reach(postgres_url, database_url):
        for number in range(20):
            sent = {"X-Agent-Id": "a1", "X-Trajectory-Id": "t1", "X-Call-Id": f"c{number}"} | spooled
            body = {"messages": [{"role": "user", "content": "You see: red ball 3 ahead"}]}
            assert gateway.post("/v1/chat/completions", json=body, headers=sent).headers[VERSION] == world.names[0]
        for one in (strict, gateway):
            response = ask(one, Call="committed")
            assert problem(response)[:2] == (503, "database_unavailable")
            assert response.headers["Retry-After"] == "2"
        status, said = health(gateway)
        assert (status, said["database"]) == (503, "does not answer")
        assert said["engine"] == "unknown, because the database does not answer"
        assert said["capture"]["waiting"] == 20
        assert said["capture"]["bytes"] > 20 * 300

    wait_until(lambda: health(gateway)[1]["capture"] == IDLE)
    assert ask(gateway, Call="committed").status_code == 200
    assert {call.call_id for call in world.calls()} >= {"before", "strict", *(f"c{number}" for number in range(20))}


def test_a_gateway_that_starts_without_the_database_serves_what_was_kept(
    world: World, postgres_url: str, database_url: str, tmp_path: Path
) -> None:
    world.engine()
    world.release(0)
    world.release(1, share=25, stage="canary")
    with world.brief_gateway(RLFLEET_SPOOL_DIR=str(tmp_path)) as first:
        assert ask(first).status_code == 200

    with out_of_reach(postgres_url, database_url):
        knowing = world.gateway(RLFLEET_SPOOL_DIR=str(tmp_path))
        answer = knowing.post("/v1/chat/completions", json=BODY, headers={"X-Capture": "", "X-Call-Id": "kept"})
        assert answer.headers[VERSION] in world.names[:2]
        assert 0 <= knowing.get("/health").json()["releases"]["age_seconds"] < 600
        assert knowing.get("/ready").json()["status"] == "degraded"

        ignorant = world.gateway()
        assert problem(ask(ignorant))[:2] == (503, "database_unavailable")
        assert ignorant.get("/health").json()["releases"] == {"age_seconds": None}
        assert ignorant.get("/ready").json()["why"] == "the database does not answer, and no releases are known"
        pinned = world.gateway(RL_MODEL_VERSION=world.names[1])
        assert problem(ask(pinned))[:2] == (503, "database_unavailable")

    wait_until(lambda: world.count() == 2)
    assert "password" not in (tmp_path / "releases.json").read_text()


BODY = {"messages": [{"role": "user", "content": "You see: red ball 3 ahead"}]}
