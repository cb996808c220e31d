"""Playing scenarios with a model: an episode is a conversation between an environment and a chat client.

An episode that something other than the model ended is a failed one: it names the boundary that it crossed, and has no
reward. Whoever plays many goes on with the others.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from environments import sandbox
from environments.agent import ChatClient
from environments.aside import Threads
from environments.contract import Environment, Episode, Step
from environments.replies import action_of, follow
from rl.errors import (
    CallRefused,
    ContextExceeded,
    InvalidInput,
    MissingDependency,
    NoScenario,
    SandboxUnavailable,
)
from rl.health import broken
from rl.records import Message, Record, ScenarioRef

Boundary = Literal["environment", "engine", "context", "stall", "sandbox"]
"""Where an episode was given up: the environment raised; the engine refused the conversation, or failed it alone; it is
longer than the engine's context; a turn took too long; what the model wrote could not be run safely enough."""

STALL_SECONDS = 300.0
CLOSE_SECONDS = 10.0
"""What an episode holds is given back within this time, or behind the back of the next ones."""
MOST_WORDS = 500
"""Characters of what is said of a failure."""

log = logging.getLogger(__name__)


class Assignment(NamedTuple):
    """One episode to play. ``seed`` makes its sampling repeatable; None leaves that to the engine."""

    ref: ScenarioRef
    trajectory_id: str
    seed: int | None = None


class Outcome(Record):
    """How one episode went. ``success`` is the verdict: the rewards sum to at least what the environment calls one.

    ``type`` is the kind of scenario; ``broken`` says how an answer was broken, if one was (``rl.health.broken``).
    ``boundary`` is where it was given up, and ``words`` say why. A conversation that outgrew the engine's context is
    truncated, with what it earned: that is the model's doing. ``sandbox_level`` is what held the code of its replies
    (``environments.sandbox.Level``); None where the environment runs none, or no reply was taken.
    """

    scenario_id: str
    trajectory_id: str
    reward: float
    success: bool
    turns: int
    truncated: bool
    content_hash: str
    type: str = ""
    broken: str | None = None
    boundary: Boundary | None = None
    words: str = ""
    sandbox_level: str | None = None

    @property
    def failed(self) -> bool:
        """Whether it tells nothing of the model, also as the opening alone was longer than the engine's context."""
        return self.boundary is not None and (self.boundary != "context" or self.turns == 0)

    def given_up(self, boundary: Boundary, words: str) -> Outcome:
        """The same, if it turns out afterwards that it tells nothing."""
        return self.model_copy(
            update={"reward": 0.0, "success": False, "truncated": False, "boundary": boundary, "words": words}
        )


def call_seed(seed: int, turn: int) -> int:
    """The sampling seed of one call: below 2^31, and apart for the turns of one episode and its neighbours'."""
    return (seed * 8191 + turn) % 2**31


async def play(
    environment: Environment,
    ref: ScenarioRef,
    chat: ChatClient,
    trajectory_id: str,
    seed: int | None = None,
    stall_seconds: float = STALL_SECONDS,
    threads: Threads | None = None,
) -> Outcome:
    """Play one episode to its end, or until a reply or a step takes longer than ``stall_seconds``.

    What the model says is an action, sensible or not; it never raises. In an environment with tools, the first function
    that the model calls is the action (``replies.action_of``). Closing the episode changes nothing of how it ended: a
    reward was earned before it, and an error that came before it is the one to raise; what goes wrong there is logged.

    Raises:
        EngineUnavailable: the engine stayed away for longer than the client waits.
        PermanentError: the engine refuses all calls, or there is no such scenario, or it cannot be played here.
    """
    playing = _Playing(environment, ref, chat, trajectory_id, seed, stall_seconds, threads or Threads())
    try:
        await playing.to_the_end()
    except _Crossed as crossed:
        return playing.outcome(crossed.boundary, crossed.words)
    return playing.outcome()


class _Crossed(Exception):
    """Its words are an error's first line, as Postgres takes it: NUL becomes U+FFFD, half of a surrogate pair ``?``."""

    def __init__(self, boundary: Boundary, error: Exception | str) -> None:
        said = error if isinstance(error, str) else f"{type(error).__name__}: {error}".split("\n", 1)[0]
        whole = said[:MOST_WORDS].replace("\0", "\ufffd").encode("utf-8", "replace")
        self.boundary, self.words = boundary, whole.decode()
        super().__init__(self.words)


@dataclass
class _Playing:
    environment: Environment
    ref: ScenarioRef
    chat: ChatClient
    trajectory_id: str
    seed: int | None
    stall_seconds: float
    threads: Threads
    reward: float = 0.0
    turns: int = 0
    truncated: bool = False
    damage: str | None = None
    content_hash: str = ""
    type: str = ""
    success: float = 0.0
    sandbox_level: str | None = None
    tools: Sequence[Mapping[str, Any]] = ()

    async def to_the_end(self) -> None:
        async with self.threads.turn(self.environment), self._in_time():
            episode = await self._opened()
        self.environment = episode.environment
        try:
            await self._turns(episode)
        finally:
            await self._close(episode)

    async def _close(self, episode: Episode) -> None:
        try:
            async with self.threads.turn(self.environment), asyncio.timeout(CLOSE_SECONDS):
                await self.threads.run(self.environment, episode.close)
        except Exception as error:
            log.warning("the episode %s was not closed: %s: %s", self.trajectory_id, type(error).__name__, error)

    def outcome(self, boundary: Boundary | None = None, words: str = "") -> Outcome:
        is_told = boundary in (None, "context")
        return Outcome(
            scenario_id=self.ref.id,
            trajectory_id=self.trajectory_id,
            reward=self.reward if is_told else 0.0,
            success=boundary is None and self.reward >= self.success,
            turns=self.turns,
            truncated=self.truncated or boundary == "context",
            content_hash=self.content_hash,
            type=self.type,
            broken=self.damage,
            boundary=boundary,
            words=words,
            sandbox_level=self.sandbox_level,
        )

    async def _turns(self, episode: Episode) -> None:
        messages = episode.messages
        self.content_hash, self.type = episode.content_hash, episode.type
        self.success, self.tools = episode.environment.success, episode.environment.tools
        while True:
            async with self._in_time():
                reply = await self._reply(messages)
            action = action_of(reply) if self.tools else None
            said = reply.content or "" if action is None else action
            self.damage = self.damage or broken(said)
            async with self.threads.turn(self.environment), self._in_time():
                step = await self._stepped(episode, said)
                if self.environment.sandboxed and self.turns == 0:
                    self.sandbox_level = await self.threads.run(self.environment, sandbox.level_name)
            self.reward += step.reward
            self.turns += 1
            if step.done:
                self.truncated = step.truncated
                return
            messages += follow(reply, action, step.observation)

    async def _reply(self, messages: Sequence[Message]) -> Message:
        try:
            return await self.chat.reply(
                messages,
                trajectory_id=self.trajectory_id,
                turn=self.turns,
                call_id=f"{self.trajectory_id}-{self.turns}",
                seed=None if self.seed is None else call_seed(self.seed, self.turns),
                tools=self.tools,
            )
        except ContextExceeded as error:
            raise _Crossed("context", error.remedy) from error
        except CallRefused as error:
            raise _Crossed("engine", str(error)) from error

    async def _opened(self) -> Episode:
        try:
            return await self.threads.opened(self.environment, self.ref)
        except NoScenario as error:
            raise _Crossed("environment", error) from error
        except (InvalidInput, MissingDependency):
            raise  # it cannot be played by anybody, or not here
        except SandboxUnavailable as error:
            raise _Crossed("sandbox", str(error)) from error
        except Exception as error:
            raise _Crossed("environment", error) from error

    async def _stepped(self, episode: Episode, said: str) -> Step:
        try:
            return _checked(await self.threads.run(self.environment, episode.step, said))
        except SandboxUnavailable as error:
            raise _Crossed("sandbox", str(error)) from error
        except Exception as error:
            raise _Crossed("environment", error) from error

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self.stall_seconds):
                yield
        except TimeoutError:
            raise _Crossed("stall", f"turn {self.turns} took more than {self.stall_seconds:g} s") from None


def _checked(step: Step) -> Step:
    """The step, if a reward and an observation can be made of it.

    Raises:
        InvalidInput: it breaks the contract.
    """
    if not math.isfinite(step.reward):
        raise InvalidInput("reward", step.reward, "a step's reward must be a finite number")
    if not (isinstance(step.observation, str) or (step.done and step.observation is None)):
        raise InvalidInput("observation", step.observation, "it must be text, or None once the episode is done")
    return step


async def play_many(
    environment: Environment,
    assignments: Sequence[Assignment],
    chat: ChatClient,
    concurrency: int,
    on_done: Callable[[Outcome, int, int], None],
    stall_seconds: float = STALL_SECONDS,
) -> list[Outcome]:
    """Play all, at most ``concurrency`` at a time. Outcomes are in the order of the assignments.

    ``on_done(outcome, done, total)`` is called as each episode ends, failed ones too. The first error stops all the
    others.

    Raises:
        EngineUnavailable: as ``play``.
        PermanentError: as ``play``.
    """
    outcomes: dict[int, Outcome] = {}
    waiting = iter(enumerate(assignments))

    async def player(threads: Threads) -> None:
        for index, (ref, trajectory_id, seed) in waiting:
            outcomes[index] = await play(environment, ref, chat, trajectory_id, seed, stall_seconds, threads)
            on_done(outcomes[index], len(outcomes), len(assignments))

    try:
        threads = Threads()
        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(assignments))):
                group.create_task(player(threads))
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    return [outcomes[index] for index in range(len(assignments))]
