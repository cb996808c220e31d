"""One logged call of a language model, in any of the shapes that agents store, as ``rl.records.Call``.

Prompts and responses are taken as they were sent. Nothing but a call's own fields is looked at here, so nothing that
became known later can reach a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rl.errors import InvalidRow
from rl.records import Call, Message
from sources.values import clean, decode, first, number, tidy

ROLES = {"developer": "system", "function": "tool", "human": "user", "ai": "assistant", "model": "assistant"}
"""Other names of OpenAI's four roles."""
UNKNOWN_MODEL = "unknown"
TOKENS = (("promptTokenIds", "prompt_token_ids"), ("tokenIds", "token_ids"), ("logprobs",))


def call_of(raw: object, *, call_id: str, turn: int) -> Call | None:
    """The call that ``raw`` describes; None when it lacks a prompt or a response, or holds what is no text.

    ``call_id`` counts where it names none. The model that spoke is ``modelVersion`` where that is given.
    """
    if not isinstance(raw, Mapping):
        return None
    try:
        messages, response = _spoken(raw)
        if not any(_said(message) for message in messages) or not _said(response):
            return None
        tokens = _tokens(raw)
        return Call(
            call_id=str(first(raw, "callId", "call_id") or call_id),
            turn=turn,
            model=str(first(raw, "modelVersion", "model_version", "model", "modelId", "model_id") or UNKNOWN_MODEL),
            messages=messages,
            response=response,
            prompt_token_ids=tokens and tokens[0],
            token_ids=tokens and tokens[1],
            logprobs=tokens and tokens[2],
            temperature=_temperature(raw),
            finish_reason=_text(first(raw, "finishReason", "finish_reason")),
            tools=_objects(first(raw, "tools")),
        )
    except (InvalidRow, KeyError, TypeError, ValueError):  # pydantic's ValidationError is a ValueError
        return None


def _spoken(raw: Mapping[str, Any]) -> tuple[list[Message], Message]:
    """What was sent, and what came back. A conversation that ends with the response is cut before it."""
    messages = _messages(raw)
    answer = first(raw, "response", "completion", "output", "responseText", "response_text")
    last = messages[-1] if messages and messages[-1].role == "assistant" else None
    if answer is None and last is not None:
        return messages[:-1], _with_reasoning(last, raw)
    response = _response(answer, raw)
    if last is not None and (last.content, last.tool_calls) == (response.content, response.tool_calls):
        messages = messages[:-1]
    return messages, response


def _messages(raw: Mapping[str, Any]) -> list[Message]:
    listed = _conversation(raw)
    if listed:
        return [_message(one) for one in listed]
    system = _content(first(raw, "systemPrompt", "system_prompt", "system"))
    user = _content(first(raw, "userPrompt", "user_prompt", "user", "prompt", "input"))
    sent = [("system", system), ("user", user)]
    return [Message.model_validate({"role": role, "content": text}) for role, text in sent if text]


def _conversation(raw: Mapping[str, Any]) -> list[Any] | None:
    """The messages as a list; None where only the two prompts are told, or the list cannot be read."""
    for name in ("messages", "messagesJson", "messages_json", "prompt", "input"):
        value = raw.get(name)
        if isinstance(value, str) and not value.lstrip().startswith(("[", '"[')):
            continue
        try:
            listed = _json(value)
        except InvalidRow:
            continue
        if isinstance(listed, list) and listed and all(isinstance(one, Mapping) and "role" in one for one in listed):
            return listed
    return None


def _message(raw: Mapping[str, Any]) -> Message:
    """Raises ``ValueError`` for a message that is not of text."""
    role = str(raw["role"])
    return Message.model_validate(
        {
            "role": ROLES.get(role, role),
            "content": _content(raw.get("content")),
            "reasoning_content": _text(first(raw, "reasoning_content", "reasoningContent", "reasoning")),
            "tool_calls": _objects(first(raw, "tool_calls", "toolCalls")),
            "tool_call_id": _text(first(raw, "tool_call_id", "toolCallId")),
            "name": _text(raw.get("name")),
        }
    )


def _response(answer: Any, raw: Mapping[str, Any]) -> Message:
    if isinstance(answer, Mapping):
        return _with_reasoning(_message({**_body(answer), "role": "assistant"}), raw)
    return _with_reasoning(Message(role="assistant", content=_content(answer)), raw)


def _body(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The message in a whole answer of OpenAI's API, or the message that ``answer`` is."""
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else {"message": answer}
    body = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(body, Mapping):
        raise ValueError("an answer without a message")
    return body


def _with_reasoning(response: Message, raw: Mapping[str, Any]) -> Message:
    """The message with the reasoning and the tool calls that stand beside it, where it has none of its own."""
    beside = {
        "reasoning_content": _text(first(raw, "reasoning", "reasoningContent", "reasoning_content")),
        "tool_calls": _objects(first(raw, "toolCalls", "tool_calls")),
    }
    missing = {name: value for name, value in beside.items() if value and not getattr(response, name)}
    return response.model_copy(update=missing) if missing else response


def _content(value: Any) -> str | None:
    """A text, or the texts of parts that are all text, joined. Raises ``ValueError`` for pictures and the like."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, Mapping) and part.get("type") == "text" for part in value):
        return "".join(str(part["text"]) for part in value)
    raise ValueError("content that is not text")


def _said(message: Message) -> bool:
    return bool((message.content and message.content.strip()) or message.tool_calls)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _json(value: Any) -> Any:
    return clean(decode(value, "messages")[0]) if isinstance(value, str) else value


def _objects(value: Any) -> list[dict[str, Any]] | None:
    """A list of objects, also as JSON text; None for an empty one. Raises ``ValueError`` for anything else."""
    found = _json(value)
    if not found:
        return None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ValueError("not a list of objects")
    return found


def _temperature(raw: Mapping[str, Any]) -> float | None:
    try:
        return number(first(raw, "temperature"), "temperature")
    except InvalidRow:
        return None


def _tokens(raw: Mapping[str, Any]) -> tuple[list[int], list[int], list[float]] | None:
    """The engine's prompt ids, ids and log-probabilities, all three or none."""
    lists = [_json(first(raw, *names)) for names in TOKENS]
    if not all(isinstance(one, list) for one in lists):
        return None
    prompt, ids, logprobs = lists
    try:
        found = [number(value, "logprobs") for value in logprobs]
    except InvalidRow:
        return None
    whole = all(type(one) is int for one in (*prompt, *ids)) and None not in found and len(ids) == len(found)
    return (prompt, ids, [value for value in found if value is not None]) if whole else None


def model_beside(raw: object) -> tuple[str, str] | None:
    """(model version, model) of a call that names both, and differently."""
    if not isinstance(raw, Mapping):
        return None
    version, model = first(raw, "modelVersion", "model_version"), first(raw, "model")
    return (tidy(str(version)), tidy(str(model))) if version and model and version != model else None
