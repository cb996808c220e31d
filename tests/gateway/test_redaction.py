"""What a line takes out is in no table, whichever way it came: every column of every table is searched."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from db import lines
from db.session import transaction
from rl.config import LineConfig
from rl.redaction import Redaction
from tests.gateway.conftest import World
from tests.planted import tables_with

MAIL, CARD, WORD = "alice.b@example.com", "4111 1111 1111 1111", "hunter2"
RULES = Redaction(kinds=("email", "card"), patterns={"word": WORD})
HOOKS = "tests.redaction_hooks"
SECRETS = f"{MAIL} {CARD} {WORD}"
LEFT = "[email] [card] [word]"


def put(redaction: Redaction, line: str = "main") -> None:
    with transaction() as session:
        lines.put(session, line, LineConfig(base_model="random-qwen3", redaction=redaction))


def found() -> list[str]:
    return sorted({table for secret in (MAIL, CARD, WORD) for table in tables_with(secret)} - {"lines"})


def rows(statement: str) -> list[tuple[Any, ...]]:
    with transaction() as session:
        return [tuple(row) for row in session.execute(text(statement))]


def chat(client: httpx.Client, said: str, call_id: str = "c1", **headers: str) -> httpx.Response:
    ids = {"X-Agent-Id": "a1", "X-Trajectory-Id": "t1", "X-Turn": "0", "X-Call-Id": call_id}
    body = {"model": "main", "messages": [{"role": "user", "content": said}]}
    return client.post("/v1/chat/completions", json=body, headers=ids | headers)


@pytest.fixture
def client(world: World) -> httpx.Client:
    world.release(0)
    world.engine(versions={world.names[0]})
    return world.gateway()


def events(line: str = "main", trajectory_id: str = "t1") -> dict[str, dict[str, Any]]:
    """An episode, with secrets wherever words can be."""
    asked = [{"role": "user", "content": SECRETS, "name": MAIL}]
    function = {
        "name": "send",
        "arguments": '{"to": "alice.b\\u0040example.com", "card": 4111111111111111, "w": "hunter2"}',
    }
    said = {
        "content": SECRETS,
        "reasoning": WORD,
        "tool_calls": [{"id": "x", "type": "function", "function": function}],
    }
    tokens = {"promptTokenIds": [1], "tokenIds": [2], "logprobs": [-0.5]}
    tools = [{"type": "function", "function": {"name": "send", "description": MAIL}}]
    call = {
        "model": "gpt-4o",
        "messages": asked,
        "response": said,
        "tools": tools,
        "callId": f"{trajectory_id}/0",
    } | tokens
    plain = {"model": "gpt-4o", "userPrompt": "Go.", "response": "BUY", "callId": f"{trajectory_id}/1"} | tokens
    action = {"actionType": MAIL, "parameters": {MAIL: [WORD]}, "result": {"card": 4111111111111111}, "error": WORD}
    one = {"trajectoryId": trajectory_id}
    start = {"agentId": "a1", "line": line, "archetype": WORD, "metadata": {MAIL: {"deep": [CARD]}}}
    step = {"stepNumber": 0, "environmentState": {WORD: MAIL}, "action": action, "outcome": {"who": MAIL}}
    return {
        "start": {"type": "startTrajectory"} | one | start,
        "step": {"type": "recordStep", "llmCalls": [call, plain]} | one | step,
        "end": {"type": "endTrajectory", "metadata": {"note": SECRETS}, "status": WORD} | one,
        "feedback": {"type": "feedback", "value": 1.0, "comment": SECRETS, "author": MAIL} | one,
        "on call": {"type": "feedback", "value": 1.0, "comment": SECRETS, "callId": f"{trajectory_id}/0"},
    }


def send(client: httpx.Client, *said: object) -> dict[str, Any]:
    response = client.post("/v1/ingest", json={"schema": 1, "events": said})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_a_captured_call_is_stored_without_what_was_found_and_without_its_tokens(
    world: World, client: httpx.Client
) -> None:
    put(RULES)
    answer = chat(client, f"I am {SECRETS}")
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["token_ids"] == [1, 2], "the agent gets the answer as it is"
    chat(client, "Go.", "c2")
    first, second = world.calls()
    assert first.messages[0].content == f"I am {LEFT}"
    assert (first.prompt_token_ids, first.token_ids, first.logprobs) == (None, None, None)
    assert second.has_tokens
    assert found() == []


def test_a_line_without_redaction_is_stored_as_it_is(world: World, client: httpx.Client) -> None:
    chat(client, SECRETS)
    assert world.calls()[0].messages[0].content == SECRETS
    assert found() == ["calls", f"calls_{_week()}"], "so the search does find what is there"


def _week() -> str:
    """That of the one call."""
    [(week,)] = rows("select to_char(at at time zone 'UTC', 'IYYY\"w\"IW') from rlfleet.calls")
    return str(week)


def test_a_new_redaction_holds_without_a_restart(world: World, client: httpx.Client) -> None:
    chat(client, "before")
    put(RULES)
    deadline, number = time.monotonic() + 60, 0
    while time.monotonic() < deadline:
        number += 1
        chat(client, WORD, f"n{number}")
        if world.calls()[-1].messages[0].content == "[word]":
            return
    raise AssertionError("the gateway never heard of it")


@pytest.mark.parametrize("hook", ["refuse", "fail"])
def test_a_call_that_the_hook_does_not_let_through_is_quarantined_and_answered(
    world: World, client: httpx.Client, hook: str
) -> None:
    put(Redaction(hook=f"{HOOKS}:{hook}"))
    assert chat(client, WORD).status_code == 200
    assert world.count() == 0
    [(source, row, field, reason, excerpt)] = rows("select source, row, field, reason, excerpt from rlfleet.quarantine")
    assert (source, row, field, excerpt) == ("capture", "c1", "redaction.hook", "")
    assert hook in reason
    assert found() == []


def test_a_hook_that_is_not_there_stores_nothing_and_says_what_to_do(world: World, client: httpx.Client) -> None:
    put(Redaction(hook="nowhere.at_all:mask"))
    answer = chat(client, WORD)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "redaction_unavailable")
    assert "install it wherever workers and gateways run" in answer.json()["error"]["message"]
    refused = client.post("/v1/ingest", json={"schema": 1, "events": list(events().values())})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "redaction_unavailable")
    put(RULES, "other")
    other = events("other", "t2")
    assert send(client, other["start"], other["step"])["accepted"] == 2, "other lines go on"
    assert world.calls("t1") == []
    assert found() == []


def test_a_refusal_is_taken_even_where_the_hook_is_not_there(world: World, client: httpx.Client) -> None:
    put(Redaction(hook="nowhere.at_all:mask"))
    assert send(client, events()["start"] | {"consent": False})["accepted"] == 1
    assert rows("select trajectory_id, consent from rlfleet.recordings") == [("t1", False)]
    assert found() == []


def test_what_agents_report_is_stored_without_what_was_found(world: World, client: httpx.Client) -> None:
    put(RULES)
    answer = send(client, *events().values())
    assert (answer["accepted"], answer["rejected"]) == (5, [])
    first, second = world.calls()
    assert (first.messages[0].content, first.messages[0].name) == (LEFT, "[email]")
    assert (first.response.content, first.response.reasoning_content) == (LEFT, "[word]")
    assert first.response.tool_calls is not None
    arguments = first.response.tool_calls[0]["function"]["arguments"]
    assert arguments == '{"to": "[email]", "card": "[card]", "w": "[word]"}'
    assert (first.token_ids, second.token_ids) == (None, [2])
    details = {"at": None, "state": {"[word]": "[email]"}, "outcome": {"who": "[email]"}}
    action = {"kind": "[email]", "parameters": {"[email]": ["[word]"]}, "success": None, "error": "[word]"}
    assert rows("select action, details from rlfleet.turns") == [
        ("[email]", details | {"action": action | {"result": {"card": "[card]"}}})
    ]
    [(archetype, status, kept)] = rows("select archetype, status, details from rlfleet.recordings")
    assert (archetype, status) == ("[word]", "[word]")
    assert kept == {"[email]": {"deep": ["[card]"]}, "note": LEFT}
    assert rows("select comment, author from rlfleet.feedback order by id") == [(LEFT, "[email]"), (LEFT, None)]
    assert found() == []


@pytest.mark.parametrize("first", ["step", "end", "feedback", "on call"])
def test_what_comes_before_its_start_is_redacted_by_the_rules_of_every_line(
    world: World, client: httpx.Client, first: str
) -> None:
    put(RULES, "shop")
    for name in sorted(events("shop"), key=lambda name: name != first):
        assert send(client, events("shop")[name])["accepted"] == 1
    assert found() == []
    assert [call.response.content for call in world.calls()] == [LEFT, "BUY"]


def test_a_line_that_nobody_knows_is_redacted_by_the_rules_of_every_line(world: World, client: httpx.Client) -> None:
    put(RULES)
    send(client, *events("not-yet").values())
    assert found() == []


def test_another_line_is_none_of_its_business(world: World, client: httpx.Client) -> None:
    put(RULES, "shop")
    start = events()["start"] | {"metadata": {"a": WORD}}
    assert send(client, start)["accepted"] == 1
    assert rows("select details from rlfleet.recordings") == [({"a": WORD},)]


def test_single_events_and_late_ones_go_the_same_way(world: World, client: httpx.Client) -> None:
    put(RULES)
    send(client, events()["start"])
    step = {key: value for key, value in events()["step"].items() if key not in ("type", "trajectoryId")}
    assert client.post("/v1/trajectories/t1/steps", json=step).status_code == 200
    said = {"value": 1.0, "comment": SECRETS}
    assert client.post("/v1/calls/t1%2F0/feedback", json=said).status_code == 200
    assert client.post("/v1/trajectories/t1/feedback", json=said).status_code == 200
    assert found() == []


def test_a_hook_is_given_parts_and_what_it_refuses_is_rejected_and_quarantined(
    world: World, client: httpx.Client
) -> None:
    put(Redaction(kinds=("email", "card"), hook=f"{HOOKS}:refuse"))
    said = events()
    start = said["start"] | {"archetype": "trader"}
    answer = send(client, start, said["step"], said["feedback"], said["end"] | {"metadata": {}, "status": "done"})
    assert answer["accepted"] == 2
    assert [(one["index"], one["field"]) for one in answer["rejected"]] == [
        (1, "redaction.hook"),
        (2, "redaction.hook"),
    ]
    assert world.calls() == []
    assert len(rows("select 1 from rlfleet.quarantine where source = 'ingest'")) == 2
    assert found() == []


def test_a_hook_masks_what_agents_report(world: World, client: httpx.Client) -> None:
    put(Redaction(kinds=("email", "card"), hook=f"{HOOKS}:mask"))
    said = events()
    said["end"]["status"] = "done"
    assert send(client, *said.values())["accepted"] == 5
    assert world.calls()[0].response.content == "[email] [card] *******"
    assert rows("select archetype from rlfleet.recordings") == [("*******",)]
    assert found() == []


def test_an_event_that_cannot_be_used_brings_no_words_into_the_quarantine(world: World, client: httpx.Client) -> None:
    put(RULES)
    bad = events()["step"] | {"reward": MAIL, WORD: MAIL}
    assert len(send(client, bad, {"type": MAIL})["rejected"]) == 2
    assert rows("select row, field from rlfleet.quarantine order by id") == [
        ("recordStep t1 0", "reward"),
        ("[email]", "type"),
    ]
    assert found() == []
