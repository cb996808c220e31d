"""Chat completions on the wire: OpenAI's request, and its response with vLLM's token fields."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from gpu import reasoning, tool_calls
from gpu.detokenize import StopText, first, showable
from gpu.generate import Completion, Request
from gpu.policy import Version
from rl.errors import ContextExceeded, InvalidInput

Finish = Literal["stop", "length", "tool_calls"]
Stop = Annotated[str, StringConstraints(min_length=1)]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class StreamOptions(BaseModel):
    """What a stream carries besides the answer."""

    model_config = ConfigDict(extra="forbid")
    include_usage: bool | None = False


class ChatRequest(BaseModel):
    """The fields that are honoured. Any other is refused, so that no caller believes in a setting nobody reads."""

    model_config = ConfigDict(extra="forbid")
    model: str
    messages: list[dict[str, Any]] = Field(min_length=1)
    tools: list[dict[str, Any]] | None = None
    tool_choice: Literal["auto", "none"] | None = None
    temperature: float | None = Field(1.0, ge=0, le=10)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    stop: Annotated[list[Stop], Field(max_length=4), BeforeValidator(_listed)] | None = None
    ignore_eos: bool | None = False
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    n: int | None = Field(1, ge=1, le=1)
    top_p: float | None = Field(1.0, ge=1, le=1)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    logprobs: bool | None = True
    top_logprobs: int | None = Field(0, ge=0, le=0)
    return_token_ids: bool | None = True
    user: str | None = None

    @property
    def limit(self) -> int | None:
        """How many tokens the caller allows."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def offered(self) -> list[dict[str, Any]] | None:
        """The tools that may be called."""
        return None if self.tool_choice == "none" else self.tools or None


@dataclass(frozen=True)
class Said:
    """What a completion says. ``content`` is None where there are only tool calls, or only reasoning.

    ``reasoning`` is None for models that do not reason in blocks, and for answers without one.
    """

    reasoning: str | None
    content: str | None
    tool_calls: list[dict[str, Any]]
    finish_reason: Finish
    stop_reason: str | None


@dataclass(frozen=True)
class Turn:
    """One request of one version, its prompt as text and as tokens."""

    number: str
    created: int
    asked: ChatRequest
    version: Version
    prompt_text: str
    request: Request

    @property
    def reasons(self) -> bool:
        """Whether answers of this model may have a block of reasoning."""
        return reasoning.known(str(self.version.tokens.tokenizer.chat_template))

    @property
    def is_open(self) -> bool:
        """Whether the answer begins inside that block."""
        return reasoning.opened_by(self.prompt_text)

    def said_so_far(self, text: str) -> reasoning.Split:
        """Reasoning and content of an answer that goes on, as far as they cannot turn out to be something else."""
        text = text[: showable(text, self.asked.stop or ())]
        parts = reasoning.split_so_far(text, self.is_open) if self.reasons else reasoning.Split(None, text)
        marks = tool_calls.MARKS if self.asked.offered else ()
        return reasoning.Split(parts.reasoning, parts.content[: showable(parts.content, marks)])

    def said(self, done: Completion) -> Said:
        """What was said up to the first stop sequence; the conversation is remembered with the ids it was held in.

        One that a stop sequence cut is not: its next turn shows less text than the tokens are.
        """
        tokens = self.version.tokens
        finish: Finish = done.finish_reason
        text = tokens.decode(done.token_ids)
        cut = first(text, self.asked.stop or ())
        if cut is None:
            text = tokens.decode(done.token_ids[:-1]) if finish == "stop" else text
            tokens.remember(self.prompt_text, text, self.request.prompt + done.token_ids)
        else:
            text, finish = text[: cut[0]], "stop"
        parts = reasoning.split(text, self.is_open) if self.reasons else reasoning.Split(None, text)
        content, calls = tool_calls.split(parts.content) if self.asked.offered else (parts.content, [])
        if calls and finish == "stop":
            finish = "tool_calls"
        is_silent = not content and (calls or parts.reasoning is not None)
        return Said(parts.reasoning, None if is_silent else content, calls, finish, cut[1] if cut else None)

    def envelope(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """The fields that a response and each of its chunks share."""
        head = {"id": f"chatcmpl-{self.number}", "object": kind, "created": self.created}
        return {**head, "model": self.asked.model, "choices": choices}

    def usage(self, done: Completion) -> dict[str, int]:
        """How many tokens were read and spoken."""
        read, spoken = len(self.request.prompt), len(done.token_ids)
        return {"prompt_tokens": read, "completion_tokens": spoken, "total_tokens": read + spoken}

    def logprobs(self, token_ids: Sequence[int], logprobs: Sequence[float]) -> dict[str, Any]:
        """OpenAI's list of spoken tokens with their log-probabilities."""
        word = self.version.tokens.word
        pairs = zip(token_ids, logprobs, strict=True)
        return {"content": [{"token": word(t), "logprob": p, "bytes": None, "top_logprobs": []} for t, p in pairs]}


def parse(body: bytes) -> ChatRequest:
    """The request in ``body``.

    Raises:
        InvalidInput: it is not JSON, or a field is missing, unknown or unsupported.
    """
    try:
        request = ChatRequest.model_validate_json(body)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"])) or "body"
        raise InvalidInput(field, problem["input"], f"{problem['msg']}; supported are {_fields()}") from error
    if request.stream_options and not request.stream:
        raise InvalidInput("stream_options", request.stream_options, "they need stream = true")
    return request


def plan(request: ChatRequest, version: Version, number: str) -> Turn:
    """The prompt, and what to decode.

    Raises:
        InvalidInput: the messages do not fit the template, or the context, or the template knows no tools.
    """
    tokens = version.tokens
    if request.offered and "tools" not in str(tokens.tokenizer.chat_template):
        raise InvalidInput("tools", len(request.offered), "the model's chat template knows no tools; leave them out")
    text = tokens.render([_flat(message) for message in request.messages], request.offered)
    prompt = tokens.ids(text)
    room = _room(len(prompt), int(version.model.config.max_position_embeddings), request.limit)
    # Python's generator takes the absolute value of a seed: -1 and 1 would say the same.
    seed = int.from_bytes(os.urandom(6)) if request.seed is None else request.seed % 2**64
    heat = 1.0 if request.temperature is None else request.temperature
    stop = StopText(tokens.decode, request.stop) if request.stop else None
    wanted = Request(prompt, request.limit or room, heat, seed, heard=stop, ignore_eos=bool(request.ignore_eos))
    return Turn(number, int(time.time()), request, version, text, wanted)


def _room(prompt: int, context: int, limit: int | None) -> int:
    """How many tokens fit behind a prompt of that many.

    Raises:
        ContextExceeded: none does, or fewer than ``limit``.
    """
    whole = f"the context holds {context} tokens, prompt and answer together"
    if prompt >= context:
        raise ContextExceeded("messages", f"{prompt} tokens", f"{whole}; send fewer")
    if limit and limit > context - prompt:
        remedy = f"{whole}, and the prompt has {prompt}; ask for at most {context - prompt}"
        raise ContextExceeded("max_tokens", limit, remedy)
    return context - prompt


def response(turn: Turn, done: Completion) -> bytes:
    """The response body."""
    said = turn.said(done)
    message: dict[str, Any] = {"role": "assistant", "content": said.content}
    if said.reasoning is not None:
        message["reasoning_content"] = said.reasoning
    if said.tool_calls:
        message["tool_calls"] = said.tool_calls
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": said.finish_reason,
        "stop_reason": said.stop_reason,
        "token_ids": done.token_ids,
        "logprobs": turn.logprobs(done.token_ids, done.logprobs),
    }
    body = turn.envelope("chat.completion", [choice])
    body |= {"usage": turn.usage(done), "prompt_token_ids": turn.request.prompt}
    return json.dumps(body, separators=(",", ":")).encode()


def _flat(message: dict[str, Any]) -> dict[str, Any]:
    """A message whose content is one string, or absent: text parts are joined.

    Raises:
        InvalidInput: there is a part that is not text, or no role.
    """
    if not isinstance(message.get("role"), str):
        raise InvalidInput("messages.role", message.get("role"), "every message needs a role")
    content = message.get("content")
    if content is None:
        return {key: value for key, value in message.items() if key != "content"}
    if not isinstance(content, list):
        return message
    if any(not isinstance(part, dict) or part.get("type") != "text" for part in content):
        raise InvalidInput("messages.content", content, "only text parts are understood")
    return {**message, "content": "".join(str(part["text"]) for part in content)}


def _fields() -> str:
    return ", ".join(ChatRequest.model_fields)
