from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from db import recordings
from db import session as db_session
from db import settings as db_settings
from db.recordings import Event
from db.session import transaction
from gateway import reports
from tests.gateway.conftest import World

START = {"type": "startTrajectory", "trajectoryId": "t1", "agentId": "a1"}
STEP = {"type": "recordStep", "trajectoryId": "t1", "stepNumber": 0, "reward": 0.5}
END = {"type": "endTrajectory", "trajectoryId": "t1"}
CALL = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Go."}], "response": "BUY"}


def send(client: httpx.Client, *events: object) -> dict[str, Any]:
    response = client.post("/v1/ingest", json={"schema": 1, "events": events})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def rows(statement: str) -> list[tuple[Any, ...]]:
    with transaction() as session:
        return [tuple(row) for row in session.execute(text(statement))]


def test_an_episode_is_stored_and_a_repeat_is_a_duplicate(world: World) -> None:
    client = world.gateway()
    events = (START, STEP | {"llmCalls": [CALL]}, END)
    assert send(client, *events) == {"schema": 1, "accepted": 3, "duplicate": 0, "rejected": []}
    assert send(client, *events) == {"schema": 1, "accepted": 0, "duplicate": 3, "rejected": []}
    assert rows("select trajectory_id, turn, reward from rlfleet.turns") == [("t1", 0, 0.5)]
    assert [call.response.content for call in world.calls()] == ["BUY"]


def test_an_id_of_another_agent_is_refused_and_stops_nothing_else(world: World) -> None:
    client = world.gateway()
    assert send(client, START)["accepted"] == 1
    other = {"type": "startTrajectory", "trajectoryId": "t2", "agentId": "a2"}
    answer = send(client, START | {"agentId": "a2"}, other, STEP)
    assert (answer["accepted"], answer["duplicate"]) == (1, 0)
    assert [(one["index"], one["field"]) for one in answer["rejected"]] == [(0, "trajectoryId"), (2, "trajectoryId")]
    assert "give each agent its own prefix" in answer["rejected"][0]["reason"]
    assert rows("select turn from rlfleet.turns") == [], "nothing goes where another's start went"
    alone = client.post("/v1/trajectories", json={"trajectoryId": "t1", "agentId": "a2"})
    assert alone.status_code == 422, alone.text


def test_a_bad_event_does_not_stop_the_good_ones_and_is_kept(world: World) -> None:
    answer = send(world.gateway(), START, STEP | {"stepNumber": -1}, {"type": "hello"}, END)
    assert (answer["accepted"], answer["duplicate"]) == (2, 0)
    assert [(one["index"], one["type"], one["field"]) for one in answer["rejected"]] == [
        (1, "recordStep", "stepNumber"),
        (2, "hello", "type"),
    ]
    kept = rows("select source, row, field, window_id, excerpt from rlfleet.quarantine order by id")
    assert kept == [("ingest", "recordStep t1 -1", "stepNumber", None, ""), ("ingest", "hello", "type", None, "")]


def test_a_call_that_the_gateway_captured_is_stored_once(world: World) -> None:
    world.release(0)
    world.engine(versions={world.names[0]})
    client = world.gateway()
    headers = {"X-Agent-Id": "a1", "X-Trajectory-Id": "t1", "X-Turn": "0", "X-Call-Id": "t1-call-0-0"}
    body = {"model": "main", "messages": [{"role": "user", "content": "Go."}]}
    assert client.post("/v1/chat/completions", json=body, headers=headers).status_code == 200
    answer = send(client, START, STEP | {"llmCalls": [CALL | {"callId": "t1-call-0-0"}, CALL]})
    assert answer["accepted"] == 2
    assert [(call.call_id, call.model) for call in world.calls()] == [
        ("t1-call-0-0", world.names[0]),
        ("t1-call-0-1", "gpt-4o"),
    ]


def test_gzip(world: World) -> None:
    body = gzip.compress(json.dumps({"schema": 1, "events": [START]}).encode())
    client = world.gateway()
    assert client.post("/v1/ingest", content=body, headers={"Content-Encoding": "gzip"}).json()["accepted"] == 1
    cut = client.post("/v1/ingest", content=body[:-9], headers={"Content-Encoding": "gzip"})
    assert (cut.status_code, cut.json()["error"]["type"]) == (400, "invalid_request_error")
    assert client.post("/v1/ingest", content=b"x", headers={"Content-Encoding": "br"}).status_code == 415


def test_sizes_are_bounded(world: World) -> None:
    client = world.gateway()
    many = client.post("/v1/ingest", json={"schema": 1, "events": [START] * 1001})
    large = client.post("/v1/ingest", content=b" " * (reports.MOST_BYTES + 1))
    bomb = gzip.compress(b" " * (64 << 20))
    cut_off = client.post("/v1/ingest", content=bomb, headers={"Content-Encoding": "gzip"})
    assert [one.status_code for one in (many, large, cut_off)] == [413, 413, 413]
    assert rows("select 1 from rlfleet.recordings") == []


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"schema": 2, "events": []}', b'{"schema": 1, "events": {}}', b"{}"])
def test_another_body_is_a_400(world: World, body: bytes) -> None:
    assert world.gateway().post("/v1/ingest", content=body).status_code == 400


def test_keys_are_those_of_chat_completions(world: World) -> None:
    client = world.gateway(RLFLEET_GATEWAY_KEYS="k1")
    for path in ("/v1/ingest", "/v1/trajectories", "/v1/trajectories/t1/feedback"):
        assert client.post(path, json={}).status_code == 401
    right = {"Authorization": "Bearer k1"}
    assert client.post("/v1/ingest", json={"schema": 1, "events": [START]}, headers=right).status_code == 200


def test_what_agents_say_is_never_sql(world: World) -> None:
    client, said = world.gateway(), "x'); drop table rlfleet.calls cascade; -- :id %(id)s %s {0} \\' \""
    start = {"type": "startTrajectory", "trajectoryId": said, "agentId": said, "scenarioId": said}
    step = STEP | {"trajectoryId": said, "llmCalls": [CALL | {"model": said, "response": said}]}
    assert send(client, start, step, END | {"trajectoryId": said})["accepted"] == 3
    (call,) = world.calls(said)
    assert (call.model, call.response.content) == (said, said)
    rated = client.post(f"/v1/trajectories/{quote(said, safe='')}/feedback", json={"value": 1, "name": "thumbs"})
    assert rated.status_code == 200, rated.text
    assert rows("select trajectory_id, name from rlfleet.feedback") == [(said, "thumbs")]
    assert client.get(f"/v1/models/{quote(said, safe='')}").status_code == 404


def test_single_events_by_path(world: World) -> None:
    client, at = world.gateway(), "/v1/trajectories/run/demo/0003/5"
    key = "run/demo/0003/5"
    stored, known = ({"schema": 1, "accepted": number, "duplicate": 1 - number} for number in (1, 0))
    assert client.post("/v1/trajectories", json={"trajectoryId": key, "agentId": "a"}).json() == stored
    assert client.post(f"{at}/steps", json={"stepNumber": 0, "llmCalls": [CALL]}).json() == stored
    assert client.post(f"{at}/steps", json={"stepNumber": 0}).json() == known
    assert client.post(f"{at}/end", json={}).json() == stored
    assert client.post(f"{at}/feedback", json={"value": 0.25}).json() == stored
    assert client.post(f"/v1/calls/{key}-call-0-0/feedback", json={"value": 1, "name": "thumbs"}).json() == stored
    found = rows("select trajectory_id, name, value from rlfleet.feedback order by id")
    assert found == [(key, "rating", 0.25), (key, "thumbs", 1.0)]


@pytest.mark.parametrize(
    ("body", "field"), [({}, "stepNumber"), ({"stepNumber": 0, "trajectoryId": "x"}, "trajectoryId")]
)
def test_a_single_event_that_cannot_be_used_is_a_422(world: World, body: dict[str, Any], field: str) -> None:
    response = world.gateway().post("/v1/trajectories/t1/steps", json=body)
    assert response.status_code == 422
    assert (response.json()["error"]["param"], response.json()["error"]["code"]) == (field, "invalid_event")


def test_beyond_so_many_waiting_requests_callers_come_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    client = world.gateway(RLFLEET_INGEST_WAITING="1")
    began, go_on, commit = threading.Event(), threading.Event(), reports._commit

    def slow(*arguments: Any) -> list[bool]:
        began.set()
        assert go_on.wait(60)
        return commit(*arguments)

    monkeypatch.setattr(reports, "_commit", slow)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(send, client, START)
        assert began.wait(60)
        refused = client.post("/v1/ingest", json={"schema": 1, "events": [START]})
        go_on.set()
        assert first.result()["accepted"] == 1
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) > 0
    assert send(client, START)["duplicate"] == 1


def test_one_event_that_the_database_refuses_does_not_hold_up_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = recordings.store

    def picky(session: Session, events: Sequence[Event]) -> list[bool]:
        if any(getattr(one, "turn", None) == 7 for one in events):
            session.execute(text("select 1 / 0"))
        return store(session, events)

    monkeypatch.setattr(recordings, "store", picky)
    answer = send(world.gateway(), START, STEP | {"stepNumber": 7}, END)
    assert answer["accepted"] == 2
    assert [(one["index"], one["field"]) for one in answer["rejected"]] == [(1, "event")]


def test_a_database_that_is_away_is_a_503(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    client = world.gateway()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("DATABASE_URL", f"postgresql://u@127.0.0.1:{taken.getsockname()[1]}/none")
        _look_again()
        response = client.post("/v1/ingest", json={"schema": 1, "events": [START]})
        db_session.engine().dispose()
    monkeypatch.undo()
    _look_again()
    assert (response.status_code, response.json()["error"]["code"]) == (503, "database_unavailable")
    assert int(response.headers["Retry-After"]) > 0
    assert send(client, START)["accepted"] == 1


def _look_again() -> None:
    db_session.dispose()
    db_settings.settings.cache_clear()
    db_session._engine.cache_clear()
