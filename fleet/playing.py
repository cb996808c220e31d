"""Playing an environment's scenarios to see how good somebody is: a model behind any endpoint, or a scripted agent.

Nothing that is played here becomes training data.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from rl.config import digest
from rl.intervals import beta_interval
from rl.records import Message, ScenarioRef

if TYPE_CHECKING:
    from environments.agent import ChatClient
    from environments.play import Assignment, Outcome

CONCURRENCY = 64
TIMEOUT_SECONDS = 120.0
"""A reply may take so long."""
OUTAGE_SECONDS = 60.0
"""A server that stumbles for less is waited for."""

Counted = Callable[[int, int], None]
"""Is told how many episodes are done, and of how many."""


@dataclass(frozen=True)
class Asked:
    """Which scenarios are played: ``samples`` times each, of ``count`` seeds of a split from ``first_seed`` on."""

    environment: str
    split: Literal["train", "validation", "held_out"]
    first_seed: int
    count: int
    samples: int = 1

    def refs(self) -> Iterator[ScenarioRef]:
        """The scenarios in order."""
        for seed in range(self.first_seed, self.first_seed + self.count):
            yield ScenarioRef(environment=self.environment, split=self.split, seed=seed)


@dataclass
class Tally:
    """What came of it. Episodes that something other than the agent ended are in ``failed``, by what, and not in ``n``;
    one that is longer than the server's context is wrong, however it begins.

    ``reason`` is what was said of the first of them. ``types`` has successes and episodes by kind of scenario,
    ``turns`` are those of the episodes in ``n`` together.
    """

    k: int = 0
    n: int = 0
    turns: int = 0
    truncated: int = 0
    types: dict[str, tuple[int, int]] = field(default_factory=dict)
    failed: Counter[str] = field(default_factory=Counter)
    reason: str | None = None
    transcripts: list[list[Message]] = field(default_factory=list)

    def add(self, success: bool, kind: str, turns: int, truncated: bool) -> None:
        """One more episode."""
        right, of = self.types.get(kind, (0, 0))
        self.types[kind] = (right + success, of + 1)
        self.k, self.n, self.turns = self.k + success, self.n + 1, self.turns + turns
        self.truncated += truncated

    def fail(self, boundary: str, words: str) -> None:
        """One more that was given up, and why."""
        self.failed[boundary] += 1
        self.reason = self.reason or f"{boundary}: {words}"

    def json(self) -> dict[str, Any]:
        """The counts, with the 80 % interval of all."""
        low, high = beta_interval(self.k, self.n)
        return {
            "k": self.k,
            "n": self.n,
            "low": round(low, 4),
            "high": round(high, 4),
            "types": {kind: {"k": k, "n": n} for kind, (k, n) in sorted(self.types.items())},
            "turns": round(self.turns / self.n, 2) if self.n else None,
            "truncated": self.truncated,
            "failed": dict(sorted(self.failed.items())),
            "reason": self.reason,
        }


class Listening:
    """A chat client that remembers the first ``most`` episodes, whole."""

    def __init__(self, chat: ChatClient, most: int) -> None:
        self._chat, self._most = chat, most
        self.heard: dict[str, list[Message]] = {}

    async def reply(self, messages: Sequence[Message], *, trajectory_id: str, **named: Any) -> Message:
        """What the model replies."""
        said = await self._chat.reply(messages, trajectory_id=trajectory_id, **named)
        if trajectory_id in self.heard or len(self.heard) < self._most:
            self.heard[trajectory_id] = [*messages, said]
        return said


async def play_model(
    asked: Asked,
    chat: ChatClient,
    counted: Counted,
    *,
    concurrency: int = CONCURRENCY,
    stall_seconds: float = TIMEOUT_SECONDS + OUTAGE_SECONDS,
    transcripts: int = 0,
    tally: Tally | None = None,
) -> Tally:
    """Play with the model that ``chat`` speaks to; several samples are seeded, each otherwise.

    ``tally`` is counted up as episodes end, so that whoever gave it has what was played before an error.

    Raises:
        EngineUnavailable: no engine answered for longer than the client waits.
        PermanentError: the engine refuses the calls, or the environment cannot be played here.
    """
    import environments
    from environments.play import play_many

    listening = Listening(chat, transcripts)
    found = Tally() if tally is None else tally

    def enter(outcome: Outcome, done: int, total: int) -> None:
        _enter(found, outcome)
        counted(done, total)

    try:
        await play_many(
            environments.load(asked.environment),
            list(_assignments(asked)),
            listening,  # type: ignore[arg-type]
            concurrency,
            enter,
            stall_seconds,
        )
    finally:
        found.transcripts = list(listening.heard.values())
    return found


def _enter(tally: Tally, outcome: Outcome) -> None:
    if outcome.failed and outcome.boundary != "context":
        tally.fail(str(outcome.boundary), outcome.words)
    else:
        tally.add(outcome.success, outcome.type, outcome.turns, outcome.truncated)


def _assignments(asked: Asked) -> Iterator[Assignment]:
    """Ids are new each time: a gateway records a call's id once."""
    from environments.play import Assignment

    this = uuid.uuid4().hex[:12]
    for ref in asked.refs():
        for sample in range(asked.samples):
            yield Assignment(ref, f"play/{this}/{ref.id}/{sample}", int(digest(ref.id, sample)[:7], 16))


def play_scripted(asked: Asked, agent: str, counted: Counted, *, transcripts: int = 0) -> Tally:
    """Play with a scripted agent, once each: the environment's oracle, chance, or silence.

    Raises:
        InvalidInput: there is no such agent or scenario.
        MissingDependency: what the environment is played with is not installed here.
    """
    import environments
    from environments.scripted import converse, policy

    environment = environments.load(asked.environment)
    tally = Tally()
    for done, ref in enumerate(asked.refs(), 1):
        played = converse(environment, ref, policy(agent, ref))
        tally.add(played.success, played.kind, len(played.turns), played.truncated)
        if len(tally.transcripts) < transcripts:
            last = played.turns[-1]
            tally.transcripts.append([*last.read, last.reply])
        counted(done, asked.count)
    return tally


async def play_at(
    asked: Asked,
    url: str,
    key: str,
    model: str,
    temperature: float,
    counted: Counted,
    *,
    max_tokens: int | None = None,
    concurrency: int = CONCURRENCY,
    timeout_seconds: float = TIMEOUT_SECONDS,
    transcripts: int = 0,
    tally: Tally | None = None,
) -> Tally:
    """Play with ``model`` behind the OpenAI-compatible ``url``; for the rest see ``play_model``.

    A reply may take ``timeout_seconds``, and a server may be away for ``OUTAGE_SECONDS``.
    """
    import environments
    from environments.agent import ChatClient

    limit = max_tokens or environments.load(asked.environment).max_tokens
    patience: dict[str, Any] = {"outage_seconds": OUTAGE_SECONDS, "timeout_seconds": timeout_seconds}
    stall = timeout_seconds + OUTAGE_SECONDS
    async with ChatClient(url, key, model, temperature, limit, "play", **patience) as chat:
        return await play_model(
            asked, chat, counted, concurrency=concurrency, stall_seconds=stall, transcripts=transcripts, tally=tally
        )


def shown(messages: Sequence[Message]) -> Iterator[str]:
    """One episode as text, a paragraph a message."""
    for message in messages:
        called: list[Mapping[str, Any]] = [call["function"] for call in message.tool_calls or []]
        said = [message.content or "", *(f"{one['name']}({one['arguments']})" for one in called)]
        yield f"{message.role}: {' '.join(filter(None, said))}"
