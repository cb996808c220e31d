"""Events in the words of the ingest contract: names in camelCase, one class each, turned into what is stored."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from db.calls import NewCall
from db.feedback import NewFeedback
from db.recordings import DEFAULT_LINE, End, Start, Step
from gateway.chat import ROLES
from rl import windows
from rl.config import digest
from rl.errors import InvalidInput
from rl.records import Finite

MOMENT = "must be ISO 8601 with a zone, or milliseconds since 1970, of the years 2000 to 8999"


def _moment(value: object) -> datetime:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(MOMENT)
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else datetime.fromtimestamp(value / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        raise ValueError(MOMENT) from None
    if found.tzinfo is None or not 2000 <= found.year < 9000:
        raise ValueError(MOMENT)
    return found.astimezone(UTC)


def _window(value: object) -> str:
    try:
        return windows.parse(value).text
    except InvalidInput as error:
        raise ValueError(error.remedy) from None


def _text(content: object) -> object:
    """The text of a message's parts, joined."""
    if not isinstance(content, list):
        return content
    if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
        raise ValueError("only text parts can be recorded and trained on")
    return "".join(part["text"] for part in content)


def _said(response: object) -> object:
    """A response that is only text, or a message without a role, as an assistant's message."""
    return {"content": response} if isinstance(response, str) else response


Id = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
Moment = Annotated[datetime, BeforeValidator(_moment)]
Window = Annotated[str, BeforeValidator(_window)]
Token = Annotated[int, Field(ge=0, lt=2**31)]
LogProb = Annotated[float, Field(ge=-1e30, le=1e30)]
"""Of the range that four bytes can say."""


class Reported(BaseModel):
    """Names in camelCase; an unknown one is an error, and null is the same as left out."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", alias_generator=to_camel)

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, value: Any) -> Any:
        return {key: one for key, one in value.items() if one is not None} if isinstance(value, dict) else value


class Said(BaseModel):
    """A message with the fields that are recorded; OpenAI's others are left out."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    role: Literal["system", "user", "assistant", "tool"]
    content: Annotated[str | None, BeforeValidator(_text)] = None
    reasoning_content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    name: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _in_our_words(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        role = value.get("role")
        ours = {"role": ROLES.get(role, role) if isinstance(role, str) else role}
        reasoning = value.get("reasoning_content") or value.get("reasoning")
        return value | ours | {"tool_calls": value.get("tool_calls") or None, "reasoning_content": reasoning}


class Spoken(Said):
    """What the model said."""

    role: Literal["assistant"] = "assistant"

    @model_validator(mode="before")
    @classmethod
    def _by_the_assistant(cls, value: Any) -> Any:
        return {"role": "assistant"} | value if isinstance(value, dict) else value


class LlmCall(Reported):
    """A call of a model inside a step."""

    call_id: Id | None = None
    model: Annotated[str, Field(min_length=1, max_length=256)]
    messages: list[Said] = Field(default_factory=list)
    system_prompt: str | None = None
    user_prompt: str | None = None
    response: Annotated[Spoken, BeforeValidator(_said)]
    reasoning: str | None = None
    tools: list[dict[str, Any]] | None = None
    temperature: Annotated[float, Field(ge=0, lt=math.inf)] | None = None
    finish_reason: str | None = None
    prompt_token_ids: list[Token] | None = None
    token_ids: list[Token] | None = None
    logprobs: list[LogProb] | None = None
    timestamp: Moment | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if bool(self.messages) == bool(self.system_prompt or self.user_prompt):
            raise ValueError("give messages, or systemPrompt and userPrompt, and not both")
        given = [one is not None for one in (self.prompt_token_ids, self.token_ids, self.logprobs)]
        if (any(given) and not all(given)) or len(self.token_ids or []) != len(self.logprobs or []):
            raise ValueError("give promptTokenIds, tokenIds and as many logprobs, or none of them")
        return self

    def stored(self, trajectory_id: str, turn: int, place: int) -> NewCall:
        prompts = [("system", self.system_prompt), ("user", self.user_prompt)]
        asked = [one.model_dump(exclude_none=True) for one in self.messages]
        said = self.response.model_dump(exclude_none=True)
        return NewCall(
            call_id=self.call_id or f"{trajectory_id}-call-{turn}-{place}",
            trajectory_id=trajectory_id,
            turn=turn,
            line=DEFAULT_LINE,
            model=self.model,
            agent_id=None,
            messages=asked or [{"role": role, "content": text} for role, text in prompts if text],
            response=({"reasoning_content": self.reasoning} if self.reasoning else {}) | said,
            prompt_token_ids=self.prompt_token_ids,
            token_ids=self.token_ids,
            logprobs=self.logprobs,
            temperature=self.temperature,
            finish_reason=self.finish_reason,
            tools=self.tools,
            place=place,
        )


class Acted(Reported):
    """What the agent did in a step."""

    action_type: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    success: bool | None = None
    result: Any = None
    error: str | None = None


class StartTrajectory(Reported):
    """An episode begins."""

    trajectory_id: Id
    agent_id: Id
    scenario_id: Id | None = None
    window_id: Window | None = None
    line: Id = DEFAULT_LINE
    archetype: str | None = None
    started_at: Moment | None = None
    consent: bool | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)

    def event(self) -> Start:
        return Start(**(self.model_dump(exclude={"window_id"}) | {"window": self.window_id}))


class RecordStep(Reported):
    """One agent step, with the calls made in it."""

    trajectory_id: Id
    step_number: Annotated[int, Field(ge=0, lt=2**31)]
    timestamp: Moment | None = None
    environment_state: dict[str, Any] = Field(default_factory=dict)
    action: Acted | None = None
    reward: Finite = 0.0
    outcome: dict[str, Any] = Field(default_factory=dict)
    llm_calls: list[LlmCall] = Field(default_factory=list)

    def event(self) -> Step:
        action = None
        if self.action is not None:
            action = {"kind": self.action.action_type} | self.action.model_dump(exclude={"action_type"})
        return Step(
            trajectory_id=self.trajectory_id,
            turn=self.step_number,
            at=self.timestamp,
            state=self.environment_state,
            action=action,
            reward=self.reward,
            outcome=self.outcome,
            calls=[one.stored(self.trajectory_id, self.step_number, i) for i, one in enumerate(self.llm_calls)],
        )


class EndTrajectory(Reported):
    """An episode is over. Without ``reward`` it is the sum of the steps'."""

    trajectory_id: Id
    ended_at: Moment | None = None
    status: Annotated[str, Field(min_length=1, max_length=64)] = "completed"
    reward: Finite | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)

    def event(self) -> End:
        return End(**self.model_dump())


class GiveFeedback(Reported):
    """What somebody thinks of a trajectory or a call. Without an id, the same words are the same feedback."""

    feedback_id: Id | None = None
    trajectory_id: Id | None = None
    call_id: Id | None = None
    name: Annotated[str, Field(min_length=1, max_length=64)] = "rating"
    value: Finite
    comment: str | None = None
    author: str | None = None
    at: Moment | None = None

    @model_validator(mode="after")
    def _of_something(self) -> Self:
        if (self.trajectory_id is None) == (self.call_id is None):
            raise ValueError("name a trajectoryId or a callId, one of them")
        return self

    def event(self) -> NewFeedback:
        rest = self.model_dump(mode="json", exclude={"feedback_id"}, exclude_none=True)
        return NewFeedback(**(self.model_dump() | {"feedback_id": self.feedback_id or digest(rest)}))
