"""What ends an episode that is not the model's doing, and what is not: boundaries, without a server."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

import environments
from environments import aside
from environments.agent import ChatClient
from environments.babyai.goto import BabyAIGoto, BabyAIGotoEpisode
from environments.contract import Step
from environments.play import Assignment, Outcome, play, play_many
from rl.errors import (
    CallRefused,
    ContextExceeded,
    EngineUnavailable,
    InvalidInput,
    MissingDependency,
    NoScenario,
    SandboxUnavailable,
)
from rl.records import Message, ScenarioRef

REF = ScenarioRef(environment="babyai-goto", split="held_out", seed=0)


class Says:
    """A chat client whose replies are made here; an exception is raised."""

    def __init__(self, reply: Callable[[int], str | Exception]) -> None:
        self._reply = reply

    async def reply(self, _: Sequence[Message], *, turn: int, **__: Any) -> Message:
        said = self._reply(turn)
        if isinstance(said, Exception):
            raise said
        return Message(role="assistant", content=said)


def played(reply: Callable[[int], str | Exception] = lambda _: "turn left", stall_seconds: float = 60) -> Outcome:
    chat = cast("ChatClient", Says(reply))
    return asyncio.run(play(environments.load("babyai-goto"), REF, chat, "t", None, stall_seconds))


def test_a_refusal_is_a_failure_without_a_reward() -> None:
    outcome = played(lambda _: CallRefused("400: \ud800no"))
    told = (outcome.failed, outcome.boundary, outcome.words, outcome.reward, outcome.success, outcome.turns)
    assert told == (True, "engine", "400: ?no", 0.0, False, 0)


@pytest.mark.parametrize(("turn", "failed"), [(0, True), (1, False), (2, False)])
def test_the_end_of_the_context_is_the_models_doing_once_it_has_spoken(turn: int, failed: bool) -> None:
    overflow = ContextExceeded("messages", "9 tokens", "the context holds 8")
    outcome = played(lambda number: overflow if number == turn else "turn left")
    told = (outcome.failed, outcome.boundary, outcome.words, outcome.truncated, outcome.turns)
    assert told == (failed, "context", "the context holds 8", True, turn)


@pytest.mark.parametrize("error", [EngineUnavailable("away"), MissingDependency("no jar")])
def test_what_concerns_every_episode_is_raised(error: Exception) -> None:
    with pytest.raises(type(error)):
        played(lambda _: error)


def test_a_scenario_that_nobody_can_play_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: object) -> Any:
        raise InvalidInput("scenario", "x", "its split has no such seed")

    monkeypatch.setattr(BabyAIGoto, "open", opened)
    with pytest.raises(InvalidInput, match="no such seed"):
        played()


def test_a_scenario_that_cannot_be_made_is_a_failure_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: object) -> Any:
        raise NoScenario("scenario", "x", "none of 256 entries did")

    monkeypatch.setattr(BabyAIGoto, "open", opened)
    outcome = played()
    assert (outcome.boundary, outcome.words) == ("environment", "NoScenario: scenario = 'x': none of 256 entries did")


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (Step("", float("nan"), False, False), "reward = nan: a step's reward must be a finite number"),
        (Step(None, float("-inf"), True, False), "reward = -inf: a step's reward must be a finite number"),
        (Step("", cast("float", "1"), False, False), "must be real number, not str"),
        (Step(cast("str", 3), 0.0, False, False), "observation = 3: it must be text, or None"),
        (Step(cast("str", 3), 0.0, True, False), "observation = 3: it must be text, or None"),
        (Step(None, 0.0, False, False), "observation = None: it must be text, or None"),
        (cast("Step", None), "'NoneType' object has no attribute"),
    ],
)
def test_a_step_that_breaks_the_contract_fails_its_episode(
    monkeypatch: pytest.MonkeyPatch, step: Step, words: str
) -> None:
    monkeypatch.setattr(BabyAIGotoEpisode, "step", lambda *_: step)
    outcome = played()
    assert (outcome.boundary, outcome.reward, outcome.turns) == ("environment", 0.0, 0)
    assert words in outcome.words


@pytest.mark.parametrize("where", ["open", "step"])
@pytest.mark.parametrize(
    ("error", "boundary", "words"),
    [
        (KeyError("x"), "environment", "KeyError: 'x'"),
        (StopIteration(), "environment", "RuntimeError: StopIteration()"),
        (TimeoutError("slow\nsecret"), "environment", "TimeoutError: slow"),
        (SandboxUnavailable("no"), "sandbox", "no"),
        (ValueError("a\0b" + "c" * 900), "environment", "ValueError: a\ufffdb" + "c" * 485),
        (ValueError("a\ud800b"), "environment", "ValueError: a?b"),
    ],
)
def test_what_an_environment_raises_names_the_boundary(
    monkeypatch: pytest.MonkeyPatch, where: str, error: Exception, boundary: str, words: str
) -> None:
    def raises(*_: object) -> Any:
        raise error

    monkeypatch.setattr(BabyAIGoto, "blocks", isinstance(error, StopIteration))
    monkeypatch.setattr(BabyAIGoto if where == "open" else BabyAIGotoEpisode, where, raises)
    outcome = played()
    assert (outcome.failed, outcome.boundary, outcome.words) == (True, boundary, words)
    assert outcome.turns == 0


@pytest.fixture
def hangs(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Steps of the environment are taken on threads, and wait until the event is set."""
    go, step = threading.Event(), BabyAIGotoEpisode.step

    def waits(episode: BabyAIGotoEpisode, action: str) -> Step:
        go.wait(30)
        return step(episode, action)

    monkeypatch.setattr(BabyAIGotoEpisode, "step", waits)
    monkeypatch.setattr(BabyAIGoto, "blocks", True)
    yield go
    go.set()


def test_an_environment_that_hangs_is_given_up(hangs: threading.Event) -> None:
    def released(outcome: Outcome, *_: int) -> None:
        hangs.set()
        outcomes.append(outcome)

    outcomes: list[Outcome] = []
    chat = cast("ChatClient", Says(lambda _: "turn left"))
    environment = environments.load("babyai-goto")
    asyncio.run(play_many(environment, [Assignment(REF, "t")], chat, 1, released, stall_seconds=0.2))
    assert [(one.boundary, one.words) for one in outcomes] == [("stall", "turn 0 took more than 0.2 s")]


def test_who_waits_for_a_thread_does_not_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step takes a tenth of the limit, and the last one waits for twenty times that; nothing else takes time."""
    step, taken = BabyAIGotoEpisode.step, list[float]()

    def timed(episode: BabyAIGotoEpisode, action: str) -> Step:
        taken.append(0.1)
        return step(episode, action)

    @asynccontextmanager
    async def timeout(seconds: float) -> AsyncIterator[None]:
        before = sum(taken)
        yield
        if sum(taken) - before > seconds:
            raise TimeoutError

    monkeypatch.setattr(aside, "SPARE", 1 - (os.cpu_count() or 1))
    monkeypatch.setattr(asyncio, "timeout", timeout)
    monkeypatch.setattr(BabyAIGotoEpisode, "step", timed)
    monkeypatch.setattr(BabyAIGoto, "blocks", True)
    refs = [Assignment(REF.model_copy(update={"seed": seed}), f"t-{seed}") for seed in range(20)]
    chat = cast("ChatClient", Says(lambda _: "turn left"))
    done = asyncio.run(play_many(environments.load("babyai-goto"), refs, chat, 20, lambda *_: None, stall_seconds=1))
    assert [one.boundary for one in done] == [None] * 20
    assert len(taken) >= 20


def test_a_failure_does_not_stop_the_others() -> None:
    chat = cast("ChatClient", Says(lambda _: CallRefused("no")))
    refs = [Assignment(REF.model_copy(update={"seed": seed}), f"t-{seed}") for seed in range(9)]
    done = asyncio.run(play_many(environments.load("babyai-goto"), refs, chat, 2, lambda *_: None))
    assert [(one.trajectory_id, one.boundary) for one in done] == [(f"t-{seed}", "engine") for seed in range(9)]
