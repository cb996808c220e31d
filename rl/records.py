"""What a trajectory is, once normalised: the one shape that sources write and everything else reads."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


Finite = Annotated[float, AfterValidator(_finite)]


class Record(BaseModel):
    """Immutable, and strict about names: an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(Record):
    """One chat message in OpenAI's shape."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    name: str | None = None


class Call(Record):
    """One call of a language model: what it was sent, what it said, and which model spoke.

    ``prompt_token_ids``, ``token_ids`` and ``logprobs`` are the engine's own (vLLM's names) and are None
    together when the model that spoke is not ours. ``logprobs[i]`` belongs to ``token_ids[i]`` and is
    natural-log, at the temperature it was sampled with. ``tools`` are those it was offered, in OpenAI's shape.
    """

    call_id: str
    turn: int = Field(ge=0, lt=2**31)
    model: str
    messages: list[Message]
    response: Message
    prompt_token_ids: list[int] | None = None
    token_ids: list[int] | None = None
    logprobs: list[float] | None = None
    temperature: float | None = None
    finish_reason: str | None = None
    tools: list[dict[str, Any]] | None = None

    @property
    def has_tokens(self) -> bool:
        """Whether the call carries everything an on-policy objective needs."""
        return bool(self.prompt_token_ids and self.token_ids) and self.logprobs is not None


class Action(Record):
    """What an agent did in a turn. ``kind`` is the source's own word for it, such as ``BUY_SHARES``."""

    kind: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    success: bool | None = None
    result: Any = None
    error: str | None = None


class Turn(Record):
    """One agent step: the state it saw, what it did, and what that earned.

    ``outcome`` is what became known only later, such as how a market resolved. Scores may use it; no prompt ever
    holds it, because prompts are the messages of ``Call`` as they were sent.
    """

    turn: int = Field(ge=0, lt=2**31)
    at: AwareDatetime | None = None
    state: dict[str, Any] = Field(default_factory=dict)
    action: Action | None = None
    reward: Finite = 0.0
    outcome: dict[str, Any] = Field(default_factory=dict)


class Trajectory(Record):
    """One episode of one agent on one scenario, with its calls in turn order.

    ``turns`` may be empty where only calls are known. ``archetype`` is the kind of agent, by which heuristics weigh.
    ``consent`` is whether the agent's owner lets it be learned from; None where nobody said.
    """

    trajectory_id: str
    scenario_id: str
    agent_id: str
    started_at: AwareDatetime
    ended_at: AwareDatetime
    reward: Finite
    calls: list[Call]
    turns: list[Turn] = Field(default_factory=list)
    archetype: str | None = None
    consent: bool | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)


class Quarantined(Record):
    """A row of a source that could or may not be used: where it was, which field, and why."""

    source: str
    row: str
    field: str
    reason: str
    excerpt: str = ""


class Sequence(Record):
    """Tokens to train on: ``mask[i]`` is 1 where ``ids[i]`` was spoken by the policy.

    ``logprobs[i]`` is 0 where the mask is 0. ``episode`` indexes the trajectory it belongs to. ``turns[k]`` is the
    place among the trajectory's calls of the one that spoke the k-th spoken token; empty where nobody asked.
    """

    episode: int
    ids: list[int]
    mask: list[int]
    logprobs: list[float]
    turns: list[int] = Field(default_factory=list)


SYNTHETIC, EVALUATION, NOT_TRAINING = "synthetic id", "an evaluation", "not training data"
ON_PURPOSE_REASONS = frozenset({SYNTHETIC, EVALUATION, NOT_TRAINING})
"""Why a row that is sound is left out: it was not made to learn from."""
ON_PURPOSE_SOURCES = frozenset({"consent", "ids", "ingest", "redaction"})
"""What ``Quarantined.source`` says of a row that is left out because its owner refused, because another window has its
id, or because the line's redaction does not let it be stored; and of a report's event, which is no row."""


class ScenarioRef(Record):
    """A scenario of an environment, addressed by (environment, split, seed)."""

    environment: str
    split: Literal["train", "validation", "held_out"]
    seed: int = Field(ge=0)

    @property
    def id(self) -> str:
        return f"{self.environment}/{self.split}/{self.seed}"


def ids_sha256(ids: Iterable[str]) -> str:
    """SHA-256, in hex, of the distinct ids, sorted, one a line: tells whether two sets of scenarios are the same."""
    return hashlib.sha256("\n".join(sorted(set(ids))).encode()).hexdigest()


def utc(value: datetime) -> str:
    """ISO 8601 to the second with a Z, as shown to people."""
    return value.strftime("%Y-%m-%dT%H:%M:%SZ")
