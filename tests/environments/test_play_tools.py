"""Environments with functions, played over HTTP by models that call them well and badly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

import environments
from environments.agent import ChatClient
from environments.calling import read
from environments.contract import Environment, Episode
from environments.play import Assignment, Outcome, play_many
from rl.records import ScenarioRef
from tests.served import served

Said = dict[str, Any]
Model = Callable[[Episode, int], Said]
"""The assistant's message in a turn, counted from 0, of an episode that is played beside."""


def _ref(environment: Environment, trajectory_id: str) -> ScenarioRef:
    return ScenarioRef(environment=environment.name, split="held_out", seed=int(trajectory_id))


def _calling(turn: int, *functions: tuple[str, str]) -> Said:
    """A message that calls functions, each a name and the text of its arguments."""
    calls = [
        {"id": f"call-{turn}-{place}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for place, (name, arguments) in enumerate(functions)
    ]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def _expert(episode: Episode, turn: int) -> Said:
    said = json.loads(episode.oracle())
    return _calling(turn, (said["name"], json.dumps(said["arguments"])))


def _played(environment: Environment, model: Model, count: int) -> tuple[list[Outcome], dict[str, list[Said]]]:
    """The outcomes of the first held-out scenarios, and what each of them was asked, turn by turn."""
    episodes: dict[str, Episode] = {}
    asked: dict[str, list[Said]] = {}

    class Server(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            name = self.headers["X-Trajectory-Id"]
            asked.setdefault(name, []).append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            episode = episodes.setdefault(name, environment.open(_ref(environment, name)))
            message = model(episode, int(self.headers["X-Turn"]))
            episode.step(_heard(message))
            body = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    async def play(url: str) -> list[Outcome]:
        assignments = [Assignment(_ref(environment, str(seed)), str(seed)) for seed in range(count)]
        async with ChatClient(url, "key", "v1", 0.0, environment.max_tokens, "player") as chat:
            return await play_many(environment, assignments, chat, 3, lambda *_: None)

    with served(Server) as url:
        return asyncio.run(play(url)), asked


def _heard(message: Said) -> str:
    """What the episode that is played beside has to hear."""
    if not message.get("tool_calls"):
        return str(message["content"])
    function = message["tool_calls"][0]["function"]
    return f'{{"name": {json.dumps(function["name"])}, "arguments": {function["arguments"]}}}'


@pytest.mark.parametrize("name", ["trading-tools", "webshop-tools"])
def test_an_expert_solves_scenarios_by_calls(name: str) -> None:
    environment = environments.load(name)
    outcomes, asked = _played(environment, _expert, 6)
    assert [(outcome.reward, outcome.success, outcome.boundary) for outcome in outcomes] == [(1.0, True, None)] * 6
    assert [len(asked[outcome.trajectory_id]) for outcome in outcomes] == [outcome.turns for outcome in outcomes]
    for outcome in outcomes:
        last = asked[outcome.trajectory_id][-1]
        assert last["tools"] == json.loads(json.dumps(environment.tools))
        system, user, *turns = last["messages"]
        assert (system["role"], user["role"], len(turns)) == ("system", "user", 2 * (outcome.turns - 1))
        for said, answer in zip(turns[::2], turns[1::2], strict=True):
            (call,) = said["tool_calls"]
            assert (said["role"], answer["role"], answer["tool_call_id"]) == ("assistant", "tool", call["id"])
            assert read(_heard(said), environment.tools).name == call["function"]["name"]


def test_the_tool_says_what_the_episode_observes() -> None:
    environment = environments.load("webshop-tools")
    _, asked = _played(environment, _expert, 1)
    episode, observed = environment.open(_ref(environment, "0")), []
    while not (step := episode.step(episode.oracle())).done:
        observed.append(step.observation)
    messages = asked["0"][-1]["messages"]
    assert [message["content"] for message in messages if message["role"] == "tool"] == observed


def _clumsy(episode: Episode, turn: int) -> Said:
    """Says what it wants to do, then calls two functions, then breaks its JSON, then makes a function up."""
    if turn == 0:
        return {"role": "assistant", "content": "I would search[shirt]."}
    if turn == 1:
        said = json.loads(episode.oracle())
        return _calling(turn, (said["name"], json.dumps(said["arguments"])), ("click", '{"button": "Next >"}'))
    if turn == 2:
        return _calling(turn, ("click", '{"button": '))
    return _calling(turn, ("buy", '{"now": true}')) if turn == 3 else _expert(episode, turn)


def test_what_is_called_badly_is_answered_and_the_visit_goes_on() -> None:
    environment = environments.load("webshop-tools")
    (outcome,), asked = _played(environment, _clumsy, 1)
    assert (outcome.reward, outcome.success, outcome.turns) == (1.0, True, 8)
    messages = asked["0"][4]["messages"][2:]
    assert [(message["role"], message.get("tool_call_id")) for message in messages] == [
        *(("assistant", None), ("user", None)),
        *(("assistant", None), ("tool", "call-1-0"), ("tool", "call-1-1")),
        *(("assistant", None), ("tool", "call-2-0")),
        *(("assistant", None), ("tool", "call-3-0")),
    ]
    answers = [message["content"].split("\n")[0] for message in messages if message["role"] != "assistant"]
    assert answers[0] == "Call one of the functions search(words), click(button)."
    assert answers[1].startswith("Instruction: [SEP] ")
    assert answers[2:] == [
        "One call at a time.",
        "The arguments must be one JSON object. Call click(button).",
        "There is no such function. Call one of search(words), click(button).",
    ]
