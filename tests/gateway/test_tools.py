"""The tools that a call was offered are stored with it, as a report of the same call would have them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from rl.redaction import Redaction
from tests.gateway.conftest import World
from tests.gateway.test_redaction import MAIL, client, put, send

__all__ = ["client"]

TOOL = {"type": "function", "function": {"name": "buy", "description": f"ask {MAIL}", "parameters": {}}}
IDS = {"X-Agent-Id": "a1", "X-Trajectory-Id": "t1", "X-Turn": "0", "X-Call-Id": "c1"}


def ask(client: httpx.Client, **fields: Any) -> int:
    body = {"model": "main", "messages": [{"role": "user", "content": "Go."}]} | fields
    return client.post("/v1/chat/completions", json=body, headers=IDS).status_code


def test_the_tools_that_were_offered_are_stored(world: World, client: httpx.Client) -> None:
    assert ask(client, tools=[TOOL]) == 200
    [call] = world.calls()
    assert call.tools == [TOOL]
    assert call.has_tokens


def test_a_recorders_report_of_the_call_changes_nothing(world: World, client: httpx.Client) -> None:
    assert ask(client, tools=[TOOL]) == 200
    said = {"callId": "c1", "model": "gpt-4o", "userPrompt": "Go.", "response": "BUY", "tools": [TOOL]}
    step = {"type": "recordStep", "trajectoryId": "t1", "stepNumber": 0, "llmCalls": [said]}
    start = {"type": "startTrajectory", "trajectoryId": "t1", "agentId": "a1"}
    assert send(client, start, step)["rejected"] == []
    assert [call.tools for call in world.calls()] == [[TOOL]]


@pytest.mark.parametrize("hook", [None, "tests.redaction_hooks:mask"])
def test_tools_are_redacted(world: World, client: httpx.Client, hook: str | None) -> None:
    put(Redaction(kinds=("email",), hook=hook))
    assert ask(client, tools=[TOOL]) == 200
    [call] = world.calls()
    assert call.tools == [
        {"type": "function", "function": {"name": "buy", "description": "ask [email]", "parameters": {}}}
    ]


@pytest.mark.parametrize("offered", [None, [], "buy", ["buy"], {"name": "buy"}])
def test_what_is_no_list_of_tools_is_not_stored(world: World, client: httpx.Client, offered: Any) -> None:
    assert ask(client, tools=offered) == 200
    assert [call.tools for call in world.calls()] == [None]
