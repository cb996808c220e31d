"""Chat completions on the wire: OpenAI's request, and its response with vLLM's token fields."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gpu.generate import Completion, Request
from gpu.policy import Version
from gpu.tokens import ChatTokens
from rl.errors import InvalidInput


class ChatRequest(BaseModel):
    """The fields that are honoured. Any other is refused, so that no caller believes in a setting nobody reads."""

    model_config = ConfigDict(extra="forbid")
    model: str
    messages: list[dict[str, Any]] = Field(min_length=1)
    tools: list[dict[str, Any]] | None = None
    temperature: float | None = Field(1.0, ge=0, le=10)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    seed: int | None = None
    n: int | None = Field(1, ge=1, le=1)
    top_p: float | None = Field(1.0, ge=1, le=1)
    stream: bool | None = False
    logprobs: bool | None = True
    top_logprobs: int | None = Field(0, ge=0, le=0)
    return_token_ids: bool | None = True
    user: str | None = None

    @property
    def limit(self) -> int | None:
        """How many tokens the caller allows."""
        return self.max_completion_tokens or self.max_tokens


def parse(body: bytes) -> ChatRequest:
    """The request in ``body``.

    Raises:
        InvalidInput: it is not JSON, or a field is missing, unknown or unsupported.
    """
    try:
        request = ChatRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "body"
        raise InvalidInput(field, first["input"], f"{first['msg']}; supported are {_fields()}") from error
    if request.stream:
        raise InvalidInput("stream", True, "answers come whole; leave stream out")
    return request


def plan(request: ChatRequest, version: Version) -> tuple[str, Request]:
    """The prompt's text, and what to decode.

    Raises:
        InvalidInput: the messages do not fit the template, or the context.
    """
    messages = [_flat(message) for message in request.messages]
    text = version.tokens.render(messages, request.tools)
    prompt = version.tokens.ids(text)
    room = int(version.model.config.max_position_embeddings) - len(prompt)
    if room < (request.limit or 1):
        remedy = f"the context holds {room + len(prompt)} tokens, prompt and answer together"
        raise InvalidInput("messages", f"{len(prompt)} tokens, max_tokens {request.limit}", remedy)
    seed = request.seed if request.seed is not None else int.from_bytes(os.urandom(6))
    heat = 1.0 if request.temperature is None else request.temperature
    return text, Request(prompt, request.limit or room, heat, seed)


def response(
    number: str, name: str, tokens: ChatTokens, prompt_text: str, prompt: list[int], done: Completion
) -> bytes:
    """The response body; the conversation is remembered with the ids it was held in."""
    spoken = done.token_ids[:-1] if done.finish_reason == "stop" else done.token_ids
    content = tokens.decode(spoken)
    tokens.remember(prompt_text, content, prompt + done.token_ids)
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": content},
        "finish_reason": done.finish_reason,
        "stop_reason": None,
        "token_ids": done.token_ids,
        "logprobs": {
            "content": [
                {"token": tokens.word(token), "logprob": logprob, "bytes": None, "top_logprobs": []}
                for token, logprob in zip(done.token_ids, done.logprobs, strict=True)
            ]
        },
    }
    count = len(done.token_ids)
    usage = {"prompt_tokens": len(prompt), "completion_tokens": count, "total_tokens": len(prompt) + count}
    return json.dumps(
        {
            "id": f"chatcmpl-{number}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": name,
            "choices": [choice],
            "usage": usage,
            "prompt_token_ids": prompt,
        },
        separators=(",", ":"),
    ).encode()


def _flat(message: dict[str, Any]) -> dict[str, Any]:
    """A message whose content is one string: text parts are joined.

    Raises:
        InvalidInput: there is a part that is not text, or no role.
    """
    if not isinstance(message.get("role"), str):
        raise InvalidInput("messages.role", message.get("role"), "every message needs a role")
    content = message.get("content")
    if not isinstance(content, list):
        return message
    if any(not isinstance(part, dict) or part.get("type") != "text" for part in content):
        raise InvalidInput("messages.content", content, "only text parts are understood")
    return {**message, "content": "".join(str(part["text"]) for part in content)}


def _fields() -> str:
    return ", ".join(ChatRequest.model_fields)
