"""Chat completions on the wire: what a request must be, and what an answer holds for the record."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.errors import Refusal, bad_request

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
"""Roles of a request, and as which of ``rl.records.Message``'s each is recorded."""

Tokens = tuple[list[int] | None, list[int] | None, list[float] | None]
"""Of the prompt, of the answer, and the log-probabilities of the latter."""

KEPT = ("content", "reasoning_content", "tool_calls", "tool_call_id", "name")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


JSON = json.JSONDecoder(parse_constant=_no_constant)
"""Refuses NaN and Infinity, which Python's own decoder takes and Postgres does not."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request that can be forwarded. ``body`` is as the caller sent it; ``messages`` are as they are recorded.

    ``is_streamed`` says that the caller wants the answer as server-sent events, while it is being spoken.
    """

    body: dict[str, Any]
    model: str
    messages: list[dict[str, Any]]
    temperature: float
    tools: list[dict[str, Any]] | None = None
    is_streamed: bool = False

    @property
    def wants(self) -> dict[str, Any] | None:
        """The request, where the caller wants a stream."""
        return self.body if self.is_streamed else None

    def for_engine(self, version: str) -> bytes:
        """The body for an engine of ours, asking for tokens and log-probabilities in vLLM's words.

        The temperature is always said, so that the recorded one is the one that was used.
        """
        asked = {"model": version, "temperature": self.temperature, "logprobs": True, "return_token_ids": True}
        return json.dumps(self.body | asked).encode()

    def for_sglang(self, model: str, version: str) -> bytes:
        """The body for SGLang, which calls an adapter by ``lora_path``, and refuses to be asked for tokens in a stream.

        Its ``return_token_ids`` is from July 2026 (sgl-project/sglang#30917); one before that does not look at it.
        """
        asked = {"model": model, "lora_path": version, "temperature": self.temperature, "logprobs": True}
        own = {name: value for name, value in self.body.items() if name != "return_token_ids"}
        return json.dumps(own | asked | ({} if self.is_streamed else {"return_token_ids": True})).encode()

    def for_upstream(self, model: str) -> bytes:
        """The body for the base model's server: the caller's own, with the model named.

        Without ``lora_path``: SGLang would answer by any adapter that it has loaded, released or not.
        """
        own = {name: value for name, value in self.body.items() if name != "lora_path"}
        return json.dumps(own | {"model": model}).encode()


@dataclass(frozen=True, slots=True)
class Spoken:
    """What an answer says, as it is recorded. The three token lists are None together."""

    response: dict[str, Any]
    finish_reason: str | None
    model: str
    prompt_token_ids: list[int] | None = None
    token_ids: list[int] | None = None
    logprobs: list[float] | None = None


def parse_request(raw: bytes) -> ChatRequest:
    """The request in ``raw``.

    Raises:
        Refusal: 400, it is not JSON, or a field that the gateway reads cannot be used.
    """
    try:
        body = JSON.decode(raw.decode())
    except (ValueError, RecursionError) as error:
        raise bad_request("body", f"must be a JSON object ({error})") from None
    if not isinstance(body, dict):
        raise bad_request("body", "must be a JSON object")
    model, messages, temperature = body.get("model", "main"), body.get("messages"), body.get("temperature")
    if not isinstance(model, str) or not model:
        raise bad_request("model", "name a line, such as main, or a version")
    if not isinstance(messages, list) or not messages:
        raise bad_request("messages", "must be a list of at least one message")
    if temperature is None:
        temperature = 1.0
    if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0 <= temperature < math.inf:
        raise bad_request("temperature", "must be a number of at least 0")
    if body.get("stream") not in (None, False, True):
        raise bad_request("stream", "must be true or false")
    if body.get("n") not in (None, 1):
        raise bad_request("n", "must be 1: a call is one sample; send several calls, each with its own X-Call-Id")
    recorded = [_recorded(one, index) for index, one in enumerate(messages)]
    is_streamed = bool(body.get("stream"))
    return ChatRequest(body, model, recorded, float(temperature), _tools(body.get("tools")), is_streamed)


def _tools(offered: Any) -> list[dict[str, Any]] | None:
    """The tools that the model was offered; None where there are none, or what is no list of objects."""
    if not isinstance(offered, list) or not all(isinstance(one, dict) for one in offered):
        return None
    return offered or None


def _recorded(message: Any, index: int) -> dict[str, Any]:
    field = f"messages[{index}]"
    if not isinstance(message, dict) or message.get("role") not in ROLES:
        raise bad_request(field, f"must be an object whose role is one of {', '.join(ROLES)}")
    kept = _kept(message, ROLES[message["role"]])
    if isinstance(kept.get("content"), list):
        kept["content"] = _text_of(kept["content"], field)
    if not isinstance(kept.get("content", ""), str):
        raise bad_request(f"{field}.content", "must be text or a list of text parts")
    return kept


def _kept(message: Mapping[str, Any], role: str) -> dict[str, Any]:
    """The message with the fields of ``rl.records.Message`` alone, empty ones left out."""
    return {"role": role} | {key: message[key] for key in KEPT if message.get(key) not in (None, [])}


def _text_of(parts: list[Any], field: str) -> str:
    if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in parts):
        raise bad_request(f"{field}.content", "only text parts can be recorded and trained on")
    return "".join(part["text"] for part in parts)


def parse_answer(raw: bytes) -> Spoken:
    """What the answer in ``raw`` says, with its tokens where it carries all of them.

    Raises:
        Refusal: 502, it is not a chat completion.
    """
    try:
        answer = JSON.decode(raw.decode())
        choice = answer["choices"][0]
        content = (choice.get("logprobs") or {}).get("content")
        logprobs = None if content is None else [one["logprob"] for one in content]
        prompt = answer.get("prompt_token_ids") or choice.get("prompt_token_ids")  # vLLM's place, or SGLang's
        tokens = whole_tokens(prompt, choice.get("token_ids"), logprobs)
        return spoken(choice["message"], choice.get("finish_reason"), str(answer.get("model", "")), tokens)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise Refusal(502, "bad_answer", f"the engine's answer is not a chat completion ({error!r})") from None


def spoken(message: Mapping[str, Any], finish_reason: str | None, model: str, tokens: Tokens) -> Spoken:
    """The answer as it is recorded, however it came. Reasoning has one name, and is left out where it is empty."""
    response = _kept(message, "assistant")
    reasoning = response.pop("reasoning_content", None) or message.get("reasoning")
    if reasoning:
        response["reasoning_content"] = reasoning
    return Spoken(response if len(response) > 1 else response | {"content": ""}, finish_reason, model, *tokens)


def whole_tokens(prompt: list[int] | None, token_ids: list[int] | None, logprobs: Sequence[float] | None) -> Tokens:
    """The tokens of prompt and answer with the log-probabilities, or none of the three where one is not whole."""
    if not prompt or token_ids is None or logprobs is None or len(logprobs) != len(token_ids):
        return None, None, None
    numbers = [float(one) for one in logprobs]
    return (prompt, token_ids, numbers) if all(map(math.isfinite, numbers)) else (None, None, None)
