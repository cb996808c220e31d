"""What a chat completion was asked and said, in the fields of an ``llmCalls`` entry.

Requests, messages, completions and chunks may be mappings or objects of an OpenAI client; ``prompt_token_ids`` and
``token_ids`` are vLLM's names, which our engine uses too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recorder.counts import Counts

ABSENT = ("NotGiven", "Omit")  # an OpenAI client's marks for an argument that was left out
KEPT = ("role", "content", "name", "tool_calls", "tool_call_id")


def asked(request: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a request decides."""
    fields = {
        "model": request.get("model"),
        "messages": [message(item) for item in request.get("messages") or []],
        "tools": request.get("tools") or None,
        "temperature": request.get("temperature"),
    }
    return {name: value for name, value in fields.items() if type(value).__name__ not in ABSENT and value is not None}


def said(response: object, counts: Counts) -> dict[str, Any]:
    """The fields that an answer decides: of a text, an assistant message, or a whole completion."""
    if isinstance(response, str):
        return {"response": response}
    choices = of(response, "choices")
    if not choices:
        return {"response": _answer(response), **_reasoning(response)}
    choice = choices[0]
    spoken = of(choice, "message")
    fields = {
        "model": of(response, "model"),
        "response": _answer(spoken),
        **_reasoning(spoken),
        "finishReason": of(choice, "finish_reason"),
        **_tokens(response, choice, counts),
    }
    return {name: value for name, value in fields.items() if value is not None}


def message(value: object) -> dict[str, Any]:
    """The message with the fields that carry something; a refusal in words is its content."""
    if isinstance(value, Mapping):
        found = {str(name): item for name, item in value.items() if item is not None and item != []}
    else:
        found = {name: item for name in KEPT if (item := of(value, name))}
    reasoning = _reasoning(value)
    refusal = found.pop("refusal", None) or of(value, "refusal")
    if refusal and not found.get("content"):
        found["content"] = refusal
    for name in ("reasoning", "reasoning_content", "annotations"):
        found.pop(name, None)
    if text := reasoning.get("reasoning"):
        found["reasoning_content"] = text
    return {"role": "assistant", **found}


def _answer(value: object) -> dict[str, Any]:
    """The message without its reasoning, which has a field of its own."""
    return {name: item for name, item in message(value).items() if name != "reasoning_content"}


def of(value: object, name: str) -> Any:
    """The field of a mapping, or the attribute of an object; None when there is none."""
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _reasoning(spoken: object) -> dict[str, str]:
    text = of(spoken, "reasoning_content") or of(spoken, "reasoning")
    return {"reasoning": text} if isinstance(text, str) else {}


def _tokens(response: object, choice: object, counts: Counts) -> dict[str, Any]:
    """Token ids and log-probabilities; neither when they disagree in length."""
    content = of(of(choice, "logprobs"), "content")
    logprobs = [of(token, "logprob") for token in content] if content else None
    ids = of(choice, "token_ids") or None
    if logprobs is not None and ids is not None and len(ids) != len(logprobs):
        counts.bad("llmCalls.logprobs", f"are {len(logprobs)} for {len(ids)} tokens")
        ids = logprobs = None
    prompt = (of(response, "prompt_token_ids") or of(choice, "prompt_token_ids") or None) if ids else None
    return {"promptTokenIds": prompt, "tokenIds": ids, "logprobs": logprobs}
