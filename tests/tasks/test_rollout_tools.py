"""Function calls from end to end: environment, gateway, engine, and what is stored to be learned from."""

from __future__ import annotations

import json
from typing import Any

import environments
from db import calls
from db.session import transaction
from rl.records import ScenarioRef
from tests.gateway.conftest import world
from tests.tasks.rollout_double import Round
from tests.tasks.rows import one
from tests.tasks.test_rollout import Make, make

__all__ = ["make", "world"]

NAME = "webshop-tools"


def expert(body: dict[str, Any]) -> dict[str, Any]:
    """What the environment's expert calls, and a second call that nobody asked for."""
    opening = body["messages"][1]["content"]
    turn = sum(message["role"] == "assistant" for message in body["messages"])
    environment = environments.load(NAME)
    seed = next(seed for seed in range(4) if opened(seed).messages[1].content == opening)
    episode = environment.open(ScenarioRef(environment=NAME, split="train", seed=seed))
    for _ in range(turn):
        episode.step(episode.oracle())
    said = json.loads(episode.oracle())
    function = {"name": said["name"], "arguments": json.dumps(said["arguments"])}
    several = [{"id": f"call-{turn}-{place}", "type": "function", "function": function} for place in range(2)]
    return {"content": None, "tool_calls": several}


def opened(seed: int) -> Any:
    return environments.load(NAME).open(ScenarioRef(environment=NAME, split="train", seed=seed))


def conversations(round_: Round) -> list[list[dict[str, Any]]]:
    return [body["messages"] for body in round_.engine.asked if len(body["messages"]) > 2]


def test_calls_are_actions_and_each_is_answered_and_stored(make: Make) -> None:
    round_ = make(expert, environment=NAME, scenarios=2)
    result = round_.play(round_.jobs[0])
    assert (result["trajectories"], result["success"]) == (4, 1.0)
    tools = [dict(tool) for tool in environments.load(NAME).tools]
    assert {json.dumps(body["tools"]) for body in round_.engine.asked} == {json.dumps(tools)}
    assert {body["max_tokens"] for body in round_.engine.asked} == {environments.load(NAME).max_tokens}
    for messages in conversations(round_):
        said, first, second = messages[2:5]
        ids = [call["id"] for call in said["tool_calls"]]
        assert [message["role"] for message in (said, first, second)] == ["assistant", "tool", "tool"]
        assert [first["tool_call_id"], second["tool_call_id"]] == ids
        assert second["content"] == "One call at a time." != first["content"]
    with transaction() as session:
        (name,) = [row for row in round_.stored() if row.rpartition("/")[0].endswith("/0/0")]
        kept = calls.of_trajectories(session, [name])[name]
    assert all(call.tools == tools and call.has_tokens for call in kept)
    assert [call.response.tool_calls is not None for call in kept] == [True] * len(kept)


def test_what_cannot_be_called_is_fed_back_and_never_raised(make: Make) -> None:
    said = [
        {"tool_calls": [{"id": "a", "type": "function", "function": {"name": "search", "arguments": "{broken"}}]},
        {"tool_calls": [{"id": "b", "type": "function", "function": {"name": "fly", "arguments": "{}"}}]},
        {"tool_calls": [{"type": "function"}]},
        {"content": "I would rather talk."},
        {"content": "talk " * 20_000},
        {"tool_calls": [{"id": "c", "type": "function", "function": {"name": "search", "arguments": "[" * 100_000}}]},
    ]

    def model(body: dict[str, Any]) -> dict[str, Any]:
        turn = sum(message["role"] == "assistant" for message in body["messages"])
        return said[turn % len(said)]

    round_ = make(model, environment=NAME, scenarios=1)
    result = round_.play(round_.jobs[0])
    assert (result["trajectories"], result["failed"], result["success"]) == (2, 0, 0.0)
    assert one("select bool_and((details ->> 'truncated')::boolean) from rlfleet.trajectories")[0] is True
    follows = [messages[-1] for messages in conversations(round_)]
    assert {message["role"] for message in follows} == {"tool", "user"}
    assert all(message["content"] for message in follows)
