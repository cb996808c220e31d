"""What an episode holds is given back, however the episode ended, and that changes nothing of how it ended."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import pytest

import environments
from environments import play as playing
from environments.agent import ChatClient
from environments.babyai.goto import BabyAIGoto, BabyAIGotoEpisode
from environments.contract import Episode
from environments.play import Assignment, Outcome, play, play_many
from rl.errors import EngineUnavailable, PermanentError
from rl.records import Message, ScenarioRef

REFS = [ScenarioRef(environment="babyai-goto", split="train", seed=seed) for seed in range(4)]
PLAN = [Assignment(ref, f"t-{ref.seed}") for ref in REFS]


class Says:
    """A chat client whose replies are made here; an exception is raised, and None never comes."""

    def __init__(self, reply: Callable[[], str | Exception | None]) -> None:
        self._reply, self.asked = reply, 0

    async def reply(self, _: Sequence[Message], **__: Any) -> Message:
        self.asked += 1
        said = self._reply()
        if isinstance(said, Exception):
            raise said
        if said is None:
            await asyncio.Event().wait()
        return Message(role="assistant", content=said)


def played_many(says: Says, concurrency: int = 1, stall_seconds: float = 60) -> list[Outcome]:
    chat, environment = cast("ChatClient", says), environments.load("babyai-goto")
    return asyncio.run(play_many(environment, PLAN, chat, concurrency, lambda *_: None, stall_seconds))


def closing_raises(_: BabyAIGotoEpisode) -> None:
    raise RuntimeError("cannot close")


@pytest.mark.parametrize("error", [EngineUnavailable("away"), PermanentError("403")])
def test_an_error_is_not_hidden_by_a_failed_closing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(BabyAIGotoEpisode, "close", closing_raises)
    says = Says(lambda: error)
    with pytest.raises(type(error), match=str(error)):
        played_many(says)
    assert says.asked == 1


def test_a_cancelled_player_plays_no_further_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BabyAIGotoEpisode, "close", closing_raises)
    replies: Iterator[Exception | None] = iter([None, EngineUnavailable("away")])
    says = Says(lambda: next(replies))
    with pytest.raises(EngineUnavailable):
        played_many(says, concurrency=2)
    assert says.asked == 2


def test_a_failed_closing_takes_no_reward_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = played_many(Says(lambda: "turn left"))
    monkeypatch.setattr(BabyAIGotoEpisode, "close", closing_raises)
    with caplog.at_level(logging.WARNING, logger="environments.play"):
        assert played_many(Says(lambda: "turn left")) == whole
    assert [one.boundary for one in whole] == [None] * 4
    assert caplog.messages[0] == "the episode t-0 was not closed: RuntimeError: cannot close"


def test_a_closing_that_hangs_takes_no_reward_away(monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    whole = played_many(Says(lambda: "turn left"))
    monkeypatch.setattr(BabyAIGoto, "blocks", True)
    monkeypatch.setattr(BabyAIGotoEpisode, "close", lambda _: go.wait(30))
    monkeypatch.setattr(playing, "CLOSE_SECONDS", 0.05)
    assert played_many(Says(lambda: "turn left")) == whole
    go.set()


class Opening:
    """Makes openings wait on their threads until ``go``, and counts the episodes that are open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go, self.began = threading.Event(), threading.Event()
        self.opened: list[Episode] = []
        self._closed = threading.Semaphore(0)
        open_one = BabyAIGoto.open

        def opens(environment: BabyAIGoto, ref: ScenarioRef) -> Episode:
            self.began.set()
            self.go.wait(60)
            self.opened.append(open_one(environment, ref))
            return self.opened[-1]

        monkeypatch.setattr(BabyAIGoto, "open", opens)
        monkeypatch.setattr(BabyAIGotoEpisode, "close", lambda _: self._closed.release())
        monkeypatch.setattr(BabyAIGoto, "blocks", True)

    def all_are_closed(self, count: int) -> bool:
        self.go.set()
        return all(self._closed.acquire(timeout=60) for _ in range(count)) and len(self.opened) == count


def test_an_episode_that_is_open_after_the_stall_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    opening = Opening(monkeypatch)
    done = played_many(Says(lambda: "turn left"), 4, stall_seconds=3)
    assert [(one.boundary, one.turns) for one in done] == [("stall", 0)] * 4
    assert opening.all_are_closed(4)


def test_an_episode_that_is_open_after_its_player_was_cancelled_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    opening = Opening(monkeypatch)

    async def cancelled() -> None:
        chat = cast("ChatClient", Says(lambda: "turn left"))
        player = asyncio.ensure_future(play(environments.load("babyai-goto"), REFS[0], chat, "t"))
        await asyncio.to_thread(opening.began.wait, 60)
        player.cancel()
        await asyncio.wait({player})
        assert player.cancelled()

    asyncio.run(cancelled())
    assert opening.all_are_closed(1)


def test_an_episode_that_was_opened_in_vain_may_fail_to_close(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opening, tried = Opening(monkeypatch), threading.Event()
    monkeypatch.setattr(BabyAIGotoEpisode, "close", closing_raises)
    monkeypatch.setattr("environments.aside.log.warning", lambda *_: tried.set())
    played_many(Says(lambda: "turn left"), 4, stall_seconds=3)
    opening.go.set()
    assert tried.wait(60)
