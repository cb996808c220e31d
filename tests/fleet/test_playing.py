"""Playing with a model behind a server, and with scripted agents, as a function and as `rlfleet play`."""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar

import pytest
import typer
from typer.testing import CliRunner

import environments
from environments.contract import Episode
from fleet.home import Endpoints, Home
from fleet.play_cli import play
from fleet.playing import Asked, Tally, play_at, play_scripted, shown
from rl.errors import EngineUnavailable, InvalidInput, StartError
from rl.intervals import beta_interval
from rl.records import Message, ScenarioRef
from tests.served import served

COUNT = 12
EVERY = 4

app = typer.Typer()
app.command()(play)


class Model(BaseHTTPRequestHandler):
    """Solves sat-small, but says nonsense for the first of every so many scenarios, and refuses one."""

    asked: ClassVar[list[dict[str, Any]]] = []
    keys: ClassVar[set[str]] = set()
    answers: ClassVar[dict[str, str]] = {}
    refused: ClassVar[str] = ""
    why: ClassVar[dict[str, str]] = {}
    lock: ClassVar[threading.Lock] = threading.Lock()

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.lock:
            self.asked.append(body)
            self.keys.add(self.headers.get("Authorization") or "")
        text = body["messages"][-1]["content"]
        status = 200
        answer: dict[str, Any] = {"choices": [{"message": {"role": "assistant", "content": self.answers[text]}}]}
        if text == self.refused:
            status, answer = 400, {"error": self.why}
        said = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        pass


def _opened(seed: int) -> Episode:
    ref = ScenarioRef(environment="sat-small", split="held_out", seed=seed)
    return environments.load("sat-small").open(ref)


@pytest.fixture
def url() -> Iterator[str]:
    episodes = [_opened(seed) for seed in range(COUNT)]
    texts = [str(episode.messages[-1].content) for episode in episodes]
    assert len(set(texts)) == COUNT
    said = [episode.oracle() if seed % EVERY else "no" for seed, episode in enumerate(episodes)]
    Model.answers, Model.refused = dict(zip(texts, said, strict=True)), texts[1]
    Model.asked, Model.keys, Model.why = [], set(), {"message": "not this one"}
    with served(Model) as address:
        yield address


def _asked(**changed: Any) -> Asked:
    return Asked("sat-small", "held_out", 0, **{"count": COUNT} | changed)


def test_a_model_is_counted_by_type_and_what_failed_is_apart(url: str) -> None:
    seen: list[tuple[int, int]] = []
    counted = lambda done, total: seen.append((done, total))  # noqa: E731
    tally = asyncio.run(play_at(_asked(), url, "key", "m", 0.0, counted, transcripts=2))
    assert (tally.k, tally.n, dict(tally.failed)) == (COUNT - 3 - 1, COUNT - 1, {"engine": 1})
    assert sorted(tally.types) == ["n3", "n4", "n5"]
    assert sum(n for _, n in tally.types.values()) == tally.n
    assert seen == [(done, COUNT) for done in range(1, COUNT + 1)]
    assert len(tally.transcripts) == 2
    assert [message.role for message in tally.transcripts[0]] == ["system", "user", "assistant"]
    assert Model.keys == {"Bearer key"}
    assert {(one["model"], one["temperature"], one["max_tokens"]) for one in Model.asked} == {("m", 0.0, 40)}


def test_samples_are_seeded_each_otherwise_and_the_same_again(url: str) -> None:
    for _ in range(2):
        asyncio.run(play_at(_asked(count=4, samples=3), url, "", "m", 0.7, lambda *_: None, max_tokens=7))
    seeds = [one["seed"] for one in Model.asked]
    assert (len(seeds), len(set(seeds))) == (24, 12)
    assert {one["max_tokens"] for one in Model.asked} == {7}
    assert Model.keys == {""}


@pytest.mark.parametrize(("agent", "solved"), [("oracle", 12), ("silence", 0)])
def test_scripted_agents_need_no_server(agent: str, solved: int) -> None:
    seen: list[int] = []
    tally = play_scripted(_asked(), agent, lambda done, _: seen.append(done), transcripts=1)
    assert (tally.k, tally.n, tally.turns) == (solved, 12, 12)
    assert seen == list(range(1, 13))
    assert len(tally.transcripts) == 1


def test_a_tally_as_json() -> None:
    tally = Tally()
    for success, kind, turns in ((True, "near", 1), (False, "far", 4), (True, "far", 2)):
        tally.add(success, kind, turns, turns == 4)
    tally.fail("stall", "turn 3 took more than 300 s")
    tally.fail("stall", "turn 9 took more than 300 s")
    low, high = beta_interval(2, 3)
    assert tally.json() == {
        "k": 2,
        "n": 3,
        "low": round(low, 4),
        "high": round(high, 4),
        "types": {"far": {"k": 1, "n": 2}, "near": {"k": 1, "n": 1}},
        "turns": 2.33,
        "truncated": 1,
        "failed": {"stall": 2},
        "reason": "stall: turn 3 took more than 300 s",
    }


def test_calls_of_functions_are_shown() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "buy", "arguments": '{"shares": 3}'}}
    messages = [Message(role="assistant", tool_calls=[call]), Message(role="tool", content="Bought.")]
    assert list(shown(messages)) == ['assistant: buy({"shares": 3})', "tool: Bought."]


def test_the_command_prints_counts_and_episodes(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_PLAY_KEY", "mine")
    words = ["sat-small", "--url", url, "--model", "m", "--count", "12", "--transcript", "1"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0
    assert re.search(r"^solved 8/11 \(72\.7%, 80 % interval ", result.stdout, re.MULTILINE)
    assert "failed, and not counted: 1 at engine\nthe first of them: engine: " in result.stdout
    assert "not this one" in result.stdout
    assert "--- episode 1\nsystem: Make every clause true." in result.stdout
    assert Model.keys == {"Bearer mine"}


def test_the_command_as_json(url: str) -> None:
    words = ["sat-small", "--url", url, "--model", "m", "--count", "12", "--json"]
    found = json.loads(CliRunner().invoke(app, words).stdout)
    assert (found["schema"], found["k"], found["n"], found["agent"], found["model"]) == (1, 8, 11, "model", "m")
    assert (found["split"], found["failed"]) == ("held_out", {"engine": 1})
    assert "transcripts" not in found
    found = json.loads(CliRunner().invoke(app, [*words, "--transcript", "2"]).stdout)
    assert [[one["role"] for one in said] for said in found["transcripts"]] == [["system", "user", "assistant"]] * 2


def test_an_opening_that_is_longer_than_the_context_is_wrong(url: str) -> None:
    Model.why = {"message": "too long", "code": "context_length_exceeded"}
    tally = asyncio.run(play_at(_asked(), url, "", "m", 0.0, lambda *_: None))
    assert (tally.k, tally.n, dict(tally.failed), tally.truncated) == (COUNT - 3 - 1, COUNT, {}, 1)
    assert sorted(tally.types) == ["n3", "n4", "n5"]


def test_the_gateway_is_asked_with_its_key(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_GATEWAY_URL", url)
    monkeypatch.setenv("RLFLEET_GATEWAY_KEYS", "first,second")
    monkeypatch.delenv("RLFLEET_GATEWAY_KEY", raising=False)
    assert CliRunner().invoke(app, ["sat-small", "--count", "2"]).exit_code == 0
    assert Model.keys == {"Bearer first"}
    assert {one["model"] for one in Model.asked} == {"main"}


def test_the_gateway_of_the_fleet_that_runs_here_is_asked(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RLFLEET_HOME", str(tmp_path))
    monkeypatch.setenv("RLFLEET_GATEWAY_KEY", "ours")
    monkeypatch.delenv("RLFLEET_GATEWAY_URL", raising=False)
    with Home.open(os.environ) as home:
        home.write_endpoints(Endpoints("postgresql://h/d", "redis://h/0", url))
        assert CliRunner().invoke(app, ["sat-small", "--count", "2"]).exit_code == 0
    assert Model.keys == {"Bearer ours"}
    error = CliRunner().invoke(app, ["sat-small", "--count", "2"]).exception
    assert isinstance(error, StartError)
    assert str(error).startswith("no fleet runs here: start one with `rlfleet up`, name a server with --url")


def test_where_nothing_could_be_played_it_fails(url: str) -> None:
    words = ["sat-small", "--url", url, "--first-seed", "1", "--count", "1", "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert (found["n"], found["failed"]) == (0, {"engine": 1})
    assert found["reason"].startswith("engine: ")
    assert "not this one" in found["reason"]


def test_what_was_played_before_the_server_went_is_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet.playing.OUTAGE_SECONDS", 0.0)
    Model.answers.pop(next(text for text in reversed(Model.answers)))  # the last one kills its connection
    words = ["sat-small", "--url", url, "--count", "12", "--concurrency", "1", "--timeout", "20"]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, EngineUnavailable)
    assert "before it ended: solved 7/10, failed 1" in result.stderr


def test_a_split_with_fewer_scenarios_is_played_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Asked] = []

    def played(asked: Asked, *_: object, **__: object) -> Tally:
        seen.append(asked)
        return Tally(k=1, n=1)

    monkeypatch.setattr("fleet.playing.play_scripted", played)
    CliRunner().invoke(app, ["sciworld", "--agent", "oracle", "--first-seed", "11"])
    CliRunner().invoke(app, ["sat-small", "--agent", "oracle"])
    assert [asked.count for asked in seen] == [150, 200]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["sat-small", "--samples", "2"], "temperature = 0.0: several samples need a temperature above 0"),
        (["chess"], "environment = 'chess'"),
        (["sat-small", "--agent", "oracle", "--samples", "3", "--temperature", "1"], "samples = 3: oracle plays the "),
        (["sciworld", "--count", "5000"], "count = 5000: sciworld has 161 scenarios in held_out; ask for fewer"),
    ],
)
def test_what_cannot_be_played_is_refused(words: list[str], says: str) -> None:
    error = CliRunner().invoke(app, words).exception
    assert isinstance(error, InvalidInput)
    assert str(error).startswith(says)
