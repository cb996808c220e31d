"""Server-sent events of an answer on their way through: cleaned for the caller, put together for the record.

An engine's chunks carry every token's id and log-probability in vLLM's words. The record needs them, and the caller
gets what it asked for. The chunk that says why the answer ended, the usage and ``[DONE]`` are held until the call is
recorded: whoever has the end of an answer acts on it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gateway.chat import JSON, Spoken, spoken, whole_tokens
from gateway.errors import EngineFailed
from rl.errors import EngineUnavailable

END = b"data: [DONE]\n\n"
LONGEST_EVENT = 16 * 2**20

ASKED = {"prompt_token_ids": "return_token_ids", "token_ids": "return_token_ids", "logprobs": "logprobs"}
"""Fields of chunks and their choices that the record needs, and what a caller who wants them asks for."""

encode = json.JSONEncoder(separators=(",", ":")).encode


def event(content: Mapping[str, Any]) -> bytes:
    """One event with that content."""
    return b"data: " + encode(content).encode() + b"\n\n"


def failure(message: str, code: str) -> bytes:
    """The event that ends a stream which cannot go on, as OpenAI's clients understand it."""
    return event({"error": {"message": message, "type": "server_error", "param": None, "code": code}})


class Heard:
    """The events of one answer so far. ``wants`` is the caller's request, which says what it gets of the tokens.

    ``has_begun`` says that something of the answer itself was heard, ``is_done`` that all of it was. ``held`` are the
    events that the caller gets once the call is recorded.
    """

    def __init__(self, wants: Mapping[str, Any]) -> None:
        self._drops = [name for name, field in ASKED.items() if not wants.get(field)]
        self._rest = b""
        self._text: dict[str, list[str]] = {"content": [], "reasoning_content": []}
        self._calls: dict[int, dict[str, Any]] = {}
        self._prompt: list[int] | None = None
        self._token_ids: list[int] = []
        self._logprobs: list[float] = []
        self._model = ""
        self._finish_reason: str | None = None
        self.held: list[bytes] = []
        self.has_begun = self.is_done = False

    def feed(self, piece: bytes) -> bytes:
        """The events for the caller in what came; events may come in pieces.

        Raises:
            EngineUnavailable: the engine says that it failed, or what it says is no completion.
        """
        *whole, self._rest = (self._rest + piece).replace(b"\r\n", b"\n").split(b"\n\n")
        if len(self._rest) > LONGEST_EVENT:
            raise EngineUnavailable(f"sent an event of more than {LONGEST_EVENT} bytes")
        return b"".join([self._heard(one) for one in whole])

    def _heard(self, raw: bytes) -> bytes:
        data = b"\n".join(line[5:].strip() for line in raw.split(b"\n") if line.startswith(b"data:"))
        if not data or self.is_done:
            return b""
        if data == b"[DONE]":
            self.is_done = True
            return b""
        try:
            chunk = JSON.decode(data.decode())
            if error := chunk.get("error"):
                said = error.get("message") if isinstance(error, dict) else error
                raise EngineFailed(f"failed: {str(said)[:200]}", "failed")
            self._absorb(chunk)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            why = "sent a chunk that is none of a chat completion"
            raise EngineFailed(f"{why} ({error!r})", why) from None
        sent = self._cleaned(chunk)
        if self._finish_reason is None:
            return sent
        self.held.append(sent)
        return b""

    def _absorb(self, chunk: dict[str, Any]) -> None:
        self._model = chunk.get("model") or self._model
        self._prompt = chunk.get("prompt_token_ids") or self._prompt
        for choice in chunk["choices"]:
            delta = choice["delta"] or {}
            self._say("content", delta.get("content"))
            self._say("reasoning_content", delta.get("reasoning_content") or delta.get("reasoning"))
            for part in delta.get("tool_calls") or ():
                self._call(part)
            self._token_ids += choice.get("token_ids") or ()
            self._logprobs += [one["logprob"] for one in (choice.get("logprobs") or {}).get("content") or ()]
            self._finish_reason = choice.get("finish_reason") or self._finish_reason
            self.has_begun = self.has_begun or bool(self._finish_reason or self._token_ids or self._calls)

    def _say(self, name: str, text: Any) -> None:
        if not text:
            return
        if not isinstance(text, str):
            raise TypeError(f"{name} is {type(text).__name__}")
        self._text[name].append(text)
        self.has_begun = True

    def _call(self, part: dict[str, Any]) -> None:
        """A piece of a tool call: its arguments come in several, all else once, as in OpenAI's own client."""
        call = self._calls.setdefault(part["index"], {"id": "", "type": "function", "function": {}})
        call.update({key: one for key, one in part.items() if one and key not in ("index", "function")})
        function = call["function"]
        for key, one in (part.get("function") or {}).items():
            function[key] = function.get(key, "") + one if isinstance(one, str) else one

    def _cleaned(self, chunk: dict[str, Any]) -> bytes:
        """The chunk as an event, without what the caller did not ask for."""
        for name in self._drops:
            chunk.pop(name, None)
            for choice in chunk["choices"]:
                choice.pop(name, None)
        return event(chunk)

    def end(self) -> None:
        """The connection ended: without ``[DONE]``, an answer that said why it ended is whole all the same.

        Raises:
            EngineUnavailable: it had not.
        """
        self.check()
        self.is_done = True

    def check(self) -> None:
        """Return if the answer is whole.

        Raises:
            EngineUnavailable: it ended in the middle.
        """
        if self._finish_reason is None:
            raise EngineUnavailable("broke off in the middle of its answer")

    @property
    def last(self) -> bytes:
        """What is left to send once the call is recorded."""
        return b"".join([*self.held, END])

    def spoken(self) -> Spoken:
        """The answer as it would have been without streaming."""
        calls = [self._calls[index] for index in sorted(self._calls)]
        content, reasoning = ("".join(self._text[name]) for name in ("content", "reasoning_content"))
        is_silent = not content and bool(calls or reasoning)
        message = {"content": None if is_silent else content, "reasoning_content": reasoning, "tool_calls": calls}
        tokens = whole_tokens(self._prompt, self._token_ids, self._logprobs)
        return spoken(message, self._finish_reason, self._model, tokens)


def events_of(answer: Mapping[str, Any], wants: Mapping[str, Any]) -> bytes:
    """A whole completion as the events of a stream: of a server that does not stream, or recorded before."""
    choice = answer["choices"][0]
    head = {name: answer[name] for name in ("id", "created", "model", "system_fingerprint") if name in answer}
    head |= {"object": "chat.completion.chunk"}
    delta = {name: one for name, one in choice["message"].items() if one is not None}
    if calls := delta.get("tool_calls"):
        delta["tool_calls"] = [{"index": index} | call for index, call in enumerate(calls)]
    said = {name: choice[name] for name in ("token_ids", "logprobs") if choice.get(name) is not None}
    first = head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None, **said}]}
    if answer.get("prompt_token_ids"):
        first["prompt_token_ids"] = answer["prompt_token_ids"]
    end: dict[str, Any] = {"index": 0, "delta": {}, "finish_reason": choice.get("finish_reason") or "stop"}
    events = [event(first), event(head | {"choices": [end]})]
    options = wants.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage") and answer.get("usage"):
        events.append(event(head | {"choices": [], "usage": answer["usage"]}))
    return b"".join([*events, END])
