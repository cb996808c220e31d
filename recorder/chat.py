"""Calls of a chat model inside a turn: given the turn's headers, passed through, and recorded."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from recorder import completions
from recorder.counts import Counts, quiet
from recorder.streams import Stream
from recorder.values import encode, joined, moment

ORIGINAL = "recorder_original"
Client = TypeVar("Client")
Create = Callable[..., Any]


class Caller(Protocol):
    """The turn that makes a call."""

    counts: Counts

    def headers(self, call_id: str | None = None) -> dict[str, str]: ...

    def next_index(self) -> int: ...

    def call_id(self, index: int) -> str: ...

    def add_call(self, index: int, call: bytes) -> None: ...


current: ContextVar[Caller | None] = ContextVar("recorder_turn", default=None)


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was begun: its place in the turn, its id, and the request's fields as JSON."""

    index: int
    call_id: str
    asked: dict[str, bytes]

    def finish(self, response: object, counts: Counts) -> bytes:
        """The ``llmCalls`` entry. The model that the answer names is the one that spoke."""
        fields = dict(self.asked)
        for name, value in completions.said(response, counts).items():
            fields[name] = encode(value, f"llmCalls.{name}", counts)
        return joined(fields)


def begin(turn: Caller, request: Mapping[str, Any], call_id: str | None = None) -> Call:
    """Take the request as it is at this moment."""
    index = turn.next_index()
    call_id = call_id or turn.call_id(index)
    asked = {"callId": encode(call_id, "callId", turn.counts), "timestamp": moment()}
    for name, value in completions.asked(request).items():
        asked[name] = encode(value, f"llmCalls.{name}", turn.counts)
    return Call(index, call_id, asked)


def call_through(turn: Caller, create: Create, args: tuple[Any, ...], request: dict[str, Any]) -> Any:
    """``create(*args, **request)`` with the turn's headers, recorded when it answers. What it raises passes through."""
    create = getattr(create, ORIGINAL, create)
    begun = _begin_with_headers(turn, request)
    if begun is None:
        return create(*args, **request)
    call, headers = begun
    answer = create(*args, **{**request, "extra_headers": headers})
    return _later(turn, call, answer) if inspect.isawaitable(answer) else _recorded(turn, call, answer)


def wrap(client: Client) -> Client:
    """Record what ``client.chat.completions.create`` is asked and says inside turns; the same client.

    Raises:
        TypeError: the client has no such method.
    """
    found: Any = client
    try:
        create = found.chat.completions.create
    except AttributeError:
        raise TypeError(f"{type(client).__name__} has no chat.completions.create: wrap an OpenAI client") from None
    if hasattr(create, ORIGINAL):
        return client

    @functools.wraps(create)
    def recorded(*args: Any, **request: Any) -> Any:
        turn = current.get()
        return create(*args, **request) if turn is None else call_through(turn, create, args, request)

    setattr(recorded, ORIGINAL, create)
    found.chat.completions.create = recorded
    return client


@quiet
def _begin_with_headers(turn: Caller, request: dict[str, Any]) -> tuple[Call, dict[str, str]]:
    """The call, and all headers to send; a caller's own ``X-Call-Id`` is the call's id."""
    given = dict(request.get("extra_headers") or {})
    own = next((str(value) for name, value in given.items() if name.lower() == "x-call-id"), None)
    call = begin(turn, request, own)
    taken = {name.lower() for name in given}
    ours = {name: value for name, value in turn.headers(call.call_id).items() if name.lower() not in taken}
    return call, {**given, **ours}


async def _later(turn: Caller, call: Call, answer: Awaitable[Any]) -> Any:
    return _recorded(turn, call, await answer)


def _recorded(turn: Caller, call: Call, answer: Any) -> Any:
    """The answer, after it is recorded; a stream is recorded when it ends."""
    if hasattr(answer, "__aiter__") or hasattr(answer, "__next__"):
        return Stream(answer, functools.partial(_finish, turn, call))
    _finish(turn, call, answer)
    return answer


@quiet
def _finish(turn: Caller, call: Call, answer: Any) -> None:
    if not hasattr(answer, "choices") and callable(parse := getattr(answer, "parse", None)):
        answer = parse()  # what `with_raw_response` gives
    if not completions.of(answer, "choices"):
        turn.counts.bad("llmCalls.response", "is not a chat completion")
        return
    turn.add_call(call.index, call.finish(answer, turn.counts))
