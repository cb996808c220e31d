"""One logged chat completion: a request and its response, in the shapes that exporters write.

| shape | request | response |
|---|---|---|
| plain, and most proxies | ``request``, or ``request.body`` | ``response``, or ``response.body`` with its status |
| OpenAI's batches, joined by ``custom_id`` | ``body`` | ``response.body`` |
| Helicone | ``request_body`` | ``response_body`` |
| OpenPipe's reports | ``reqPayload`` | ``respPayload`` |
| Langfuse and others | ``input``: a body, or messages | ``output``: a body, a message, or text |
| LiteLLM's standard payload | the line: ``messages``, ``model_parameters`` | ``response`` |
| OpenAI's stored completions | ``messages`` or ``input`` of the line | the line |

Bodies may be JSON text. Prompts and responses are taken as they were sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import AwareDatetime

from rl.errors import InvalidRow
from rl.records import Call, Record
from sources import exchange_fields as fields
from sources.calls import call_of
from sources.exchange_fields import Json, decoded, facts, identity, one_of
from sources.values import Reason, clean, decode, flag, invalid, members, moment, whole

REQUESTS = ("request", "request_body", "requestBody", "reqPayload", "body", "input")
RESPONSES = ("response", "response_body", "responseBody", "respPayload", "output")
OWN_ID = 20
"""Characters from which on a response's id is taken for unique. Small servers count, or draw three digits."""


class Exchange(Record):
    """A call, and what its line says of the trajectory that it belongs to. ``session`` is None for a lone call."""

    session: str | None
    call: Call
    turn: int | None = None
    started_at: AwareDatetime
    ended_at: AwareDatetime
    agent: str | None = None
    scenario: str | None = None
    reward: float | None = None
    archetype: str | None = None
    consent: bool | None = None
    usage: dict[str, int] | None = None


def parse(line: str) -> Exchange:
    """The exchange in one line.

    Raises:
        InvalidRow: it is not JSON, the call failed, or lacks messages, an answer or a time.
    """
    value, unclean = decode(line, "line")
    if not isinstance(value, dict):
        raise invalid("line", Reason.NOT_AN_OBJECT)
    logged: Json = clean(value) if unclean else value
    request, response = _request(logged), _response(logged)
    found = facts(logged, *_outer(logged), request, response)
    _check_success(found, response)
    started, ended = _times(found, response)
    call_id = identity(response.get("id"))
    if call_id is None or len(call_id) < OWN_ID:
        call_id = f"logged-{hashlib.sha256(line.strip().encode('utf-8', 'replace')).hexdigest()[:24]}"
    return Exchange(
        session=identity(one_of(fields.TRAJECTORY, found)),
        call=_call(logged, request, response, call_id),
        turn=whole(one_of(fields.TURN, found)),
        started_at=started,
        ended_at=ended,
        agent=identity(one_of(fields.AGENT, found)),
        scenario=identity(one_of(fields.SCENARIO, found)),
        reward=fields.reward(one_of(fields.REWARD, found)),
        archetype=identity(one_of(fields.ARCHETYPE, found)),
        consent=flag(one_of(fields.CONSENT, found)),
        usage=_usage(response),
    )


def refusal(line: str) -> tuple[bool | None, str | None]:
    """Of a line that cannot be used: what it says of consent, and the trajectory that it would have been of."""
    try:
        value, _ = decode(line, "line")
    except InvalidRow:
        value = members(line)
    logged: Json = clean(value) if isinstance(value, dict) else {}
    response = _response(logged)
    found = facts(logged, *_outer(logged), _request(logged), response)
    own = identity(response.get("id")) or ""
    session = identity(one_of(fields.TRAJECTORY, found)) or (own if len(own) >= OWN_ID else None)
    return flag(one_of(fields.CONSENT, found)), session


def is_exchange(line: Json) -> bool:
    """Whether an object looks like a logged request, and not like a trajectory of ours."""
    return bool(_messages_of(_request(line)))


def _request(logged: Json) -> Json:
    """The request's body; the line itself where that has the messages."""
    for name in REQUESTS:
        found = _body(logged.get(name))
        if found:
            return found
    return logged


def _response(logged: Json) -> Json:
    """The response's body, with the answer under ``choices`` where it is a bare message or text."""
    for name in RESPONSES:
        value = decoded(logged.get(name))
        if isinstance(value, str):
            return {"choices": [{"message": {"content": value}}]}
        if isinstance(value, list) and value and isinstance(value[0], dict) and "role" in value[0]:
            value = value[-1]
        found = _body(value)
        if "role" in found and "choices" not in found:
            return {"choices": [{"message": found}]}
        if found:
            return found
    return logged if "choices" in logged else {}


def _body(value: Any) -> Json:
    """The body in what stands for a request or a response; messages alone become one. Empty where there is none."""
    value = decoded(value)
    if isinstance(value, list):
        return {"messages": value}
    if not isinstance(value, dict):
        return {}
    inner = decoded(value.get("body"))
    return inner if isinstance(inner, dict) else value


def _outer(logged: Json) -> list[Json]:
    """What stands around the bodies: headers, a status, a time."""
    found = [decoded(logged.get(name)) for name in (*REQUESTS, *RESPONSES)]
    return [one for one in found if isinstance(one, dict)]


def _check_success(found: Json, response: Json) -> None:
    """Raises ``InvalidRow`` with the status where the call failed."""
    status = one_of(fields.STATUS, found)
    code = whole(status)
    if code is not None and code >= 100 and not 200 <= code < 300:
        raise InvalidRow("response.status", "<see excerpt>", f"the call failed with status {code}")
    failed = isinstance(status, str) and status.lower() in ("failure", "failed", "error")
    if failed or (one_of(fields.ERROR, found) and not response.get("choices")):
        raise InvalidRow("response.error", "<see excerpt>", "the call failed")


def _times(found: Json, response: Json) -> tuple[datetime, datetime]:
    created = response.get("created")
    started = moment(one_of(fields.STARTED, found) or created, "timestamp")
    ended = moment(one_of(fields.ENDED, found), "timestamp") or started
    started = started or ended
    if started is None or ended is None:
        raise invalid("timestamp", Reason.MISSING)
    return min(started, ended), max(started, ended)


def _call(logged: Json, request: Json, response: Json, call_id: str) -> Call:
    """The call; the first choice where there are several."""
    messages = _messages_of(request) or _messages_of(logged)
    if not messages:
        raise invalid("request.messages", Reason.MISSING)
    choices = decoded(response.get("choices"))
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    if not isinstance(choice.get("message"), dict):
        raise invalid("response.choices", Reason.MISSING)
    parameters = decoded(logged.get("model_parameters"))
    asked = {**(parameters if isinstance(parameters, dict) else {}), **request}
    raw = {
        "messages": [_modern(one) for one in messages],
        "response": _modern(choice["message"]),
        "model": response.get("model") or asked.get("model") or logged.get("model"),
        "tools": asked.get("tools") or [{"type": "function", "function": one} for one in asked.get("functions") or ()],
        "temperature": asked.get("temperature"),
        "finish_reason": choice.get("finish_reason"),
        "prompt_token_ids": response.get("prompt_token_ids") or choice.get("prompt_token_ids"),
        "token_ids": choice.get("token_ids"),
        "logprobs": _logprobs(choice),
    }
    call = call_of(raw, call_id=call_id, turn=0)
    if call is None:
        raise invalid("call", Reason.NO_CALL)
    return call


def _messages_of(body: Json) -> list[Any]:
    for name in ("messages", "input"):
        found = decoded(body.get(name))
        if isinstance(found, list) and found and all(isinstance(one, dict) and "role" in one for one in found):
            return found
    return []


def _modern(message: Json) -> Json:
    """The message with its tool calls, answer and reasoning under the names of today."""
    found = dict(message)
    call = found.get("function_call")
    if isinstance(call, Mapping) and not found.get("tool_calls"):
        found["tool_calls"] = [{"id": None, "type": "function", "function": call}]
    if not found.get("content") and isinstance(found.get("refusal"), str):
        found["content"] = found["refusal"]
    if not found.get("reasoning_content") and isinstance(found.get("thinking"), str):
        found["reasoning_content"] = found["thinking"]
    return found


def _logprobs(choice: Json) -> list[Any] | None:
    """Of each token that was said; None where there are none."""
    content = (choice.get("logprobs") or {}).get("content") if isinstance(choice.get("logprobs"), dict) else None
    if not isinstance(content, list) or not all(isinstance(one, dict) for one in content):
        return None
    return [one.get("logprob") for one in content]


def _usage(response: Json) -> dict[str, int] | None:
    """Tokens as the server counted them."""
    usage = response.get("usage")
    if not isinstance(usage, dict):
        return None
    names = ("prompt_tokens", "completion_tokens")
    return {name: count for name in names if (count := whole(usage.get(name))) is not None} or None
