from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

import environments
from environments.agent import ChatClient
from environments.play import Assignment, Outcome, call_seed, play, play_many
from rl.errors import EngineUnavailable, PermanentError
from rl.records import ScenarioRef

BABYAI = environments.load("babyai-goto")


class Model:
    """An engine whose model goes to the goal if it sees it and else turns right; ``says`` overrides it.

    It answers nobody until ``together`` calls were open at once.
    """

    def __init__(self, says: str | None = None, status: int = 200, together: int = 1) -> None:
        self.says, self.status = says, status
        self.together, self.met = together, asyncio.Event()
        self.calls: list[tuple[str, int, str, dict[str, Any]]] = []
        self.open = self.most_open = 0
        self.connections: set[asyncio.Task[None] | None] = set()

    def reply(self, messages: Sequence[dict[str, str]]) -> str:
        text = messages[-1]["content"]
        goal = re.search(r"go to (?:the|a) (\w+ \w+)\nYou see: (.*)", text)
        assert goal is not None
        return f"go to {goal[1]}" if goal[1] in goal[2] else "turn right"

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(asyncio.current_task())
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                headers = dict(line.split(": ", 1) for line in head.strip().split("\r\n")[1:])
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                self.open += 1
                self.most_open = max(self.most_open, self.open)
                self.calls.append((headers["x-trajectory-id"], int(headers["x-turn"]), headers["x-call-id"], body))
                if self.open == self.together:
                    self.met.set()
                await self.met.wait()
                await asyncio.sleep(0.002)
                self.open -= 1
                said = self.reply(body["messages"]) if self.says is None else self.says
                answer = json.dumps({"choices": [{"message": {"content": said}}]}).encode()
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (self.status, len(answer)) + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            await writer.wait_closed()

    async def hung_up(self) -> None:
        await asyncio.gather(*(task for task in self.connections if task))


@asynccontextmanager
async def _chat(model: Model) -> AsyncIterator[ChatClient]:
    server = await asyncio.start_server(model, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with server, ChatClient(f"http://127.0.0.1:{port}", "key", "v1", 0.0, 6, "player") as chat:
            yield chat
    finally:
        await model.hung_up()


def _play(model: Model, seed: int, episode_seed: int | None = None) -> Outcome:
    async def one() -> Outcome:
        async with _chat(model) as chat:
            ref = ScenarioRef(environment="babyai-goto", split="held_out", seed=seed)
            return await play(BABYAI, ref, chat, f"t-{seed}", episode_seed)

    return asyncio.run(one())


def _play_many(model: Model, count: int, concurrency: int) -> tuple[list[Outcome], list[tuple[str, int, int]]]:
    progress: list[tuple[str, int, int]] = []

    async def many() -> list[Outcome]:
        refs = [ScenarioRef(environment="babyai-goto", split="held_out", seed=seed) for seed in range(count)]
        assignments = [Assignment(ref, f"t-{ref.seed}", ref.seed) for ref in refs]

        def on_done(outcome: Outcome, done: int, total: int) -> None:
            progress.append((outcome.trajectory_id, done, total))

        async with _chat(model) as chat:
            return await play_many(BABYAI, assignments, chat, concurrency, on_done)

    return asyncio.run(many()), progress


def test_an_episode_is_a_conversation() -> None:
    model = Model()
    outcome = _play(model, 0)
    assert outcome == Outcome(
        scenario_id="babyai-goto/held_out/0",
        trajectory_id="t-0",
        reward=1.0,
        success=True,
        turns=3,
        truncated=False,
        content_hash="df7985f111b33c9f8b9c882e9970749f30579b30c6f11eebec7f0f9507d520b4",
        type="babyai-goto",
    )
    assert [call[:3] for call in model.calls] == [("t-0", 0, "t-0-0"), ("t-0", 1, "t-0-1"), ("t-0", 2, "t-0-2")]
    assert [message["role"] for message in model.calls[2][3]["messages"]] == [
        *("system", "user", "assistant", "user", "assistant", "user")
    ]
    assert model.calls[1][3]["messages"][2]["content"] == "turn right"
    assert all("seed" not in body for *_, body in model.calls)


@pytest.mark.parametrize(("says", "how"), [("", "empty"), ("go " * 30, "repeated"), ("turn left", None)])
def test_an_episode_tells_how_its_answers_were_broken(says: str, how: str | None) -> None:
    outcome = _play(Model(says=says), 0)
    assert (outcome.truncated, outcome.broken) == (True, how)


def test_each_call_of_a_seeded_episode_has_its_own_seed() -> None:
    model = Model()
    _play(model, 0, episode_seed=5)
    assert [body["seed"] for *_, body in model.calls] == [40955, 40956, 40957]
    assert len({call_seed(seed, turn) for seed in range(100) for turn in range(50)}) == 5000
    assert call_seed(2**40, 3) < 2**31


@pytest.mark.parametrize("says", ["", "I would rather not.", "\x00 ☃", '{"action": 3}'])
def test_what_cannot_be_parsed_is_a_wasted_turn(says: str) -> None:
    outcome = _play(Model(says), 0)
    assert (outcome.reward, outcome.success, outcome.turns, outcome.truncated) == (0.0, False, 3, True)


def test_many_are_played_in_order_at_most_so_many_at_a_time() -> None:
    model = Model(together=8)
    outcomes, progress = _play_many(model, 40, concurrency=8)
    assert [outcome.trajectory_id for outcome in outcomes] == [f"t-{seed}" for seed in range(40)]
    assert all(outcome.success for outcome in outcomes)
    assert len({outcome.content_hash for outcome in outcomes}) == 40
    assert model.most_open == 8
    assert [done for _, done, _ in progress] == list(range(1, 41))
    assert {total for *_, total in progress} == {40}
    assert sorted(name for name, *_ in progress) == sorted(outcome.trajectory_id for outcome in outcomes)


def test_nothing_to_play_is_no_outcome() -> None:
    assert _play_many(Model(), 0, concurrency=8) == ([], [])


def test_a_refusal_of_every_call_stops_the_others_and_keeps_its_type() -> None:
    model = Model(status=401)
    with pytest.raises(PermanentError, match="refused the call with 401"):
        _play_many(model, 200, concurrency=4)
    assert len(model.calls) <= 8


def test_an_engine_that_is_gone_is_told_as_such() -> None:
    async def gone() -> None:
        async with ChatClient("http://127.0.0.1:9", "key", "v1", 0.0, 6, "player", outage_seconds=0.2) as chat:
            ref = ScenarioRef(environment="babyai-goto", split="held_out", seed=0)
            await play_many(BABYAI, [Assignment(ref, "t")], chat, 4, lambda *_: None)

    with pytest.raises(EngineUnavailable):
        asyncio.run(gone())
