"""A trajectory's calls as a conversation: what each was sent that is new, what it said, and what trains."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rl.records import Call, Message
from rl.token_spans import Spans, spans

CALLS_A_PAGE = 10
PROMPT_SHOWN, ANSWER_SHOWN = 200, 800
"""Tokens of a call that are shown: the last ones of the prompt, and the first ones of the answer."""
LONG = 2_400
"""Characters from which on a message is folded up."""


class Token(NamedTuple):
    """One token; a masked one has no log-probability."""

    id: int
    logprob: float | None
    is_repeated: bool = False


@dataclass(frozen=True)
class Said:
    """One message. ``rest`` is what follows the beginning of a long one."""

    role: str
    text: str
    rest: str = ""
    reasoning: str = ""
    tools: tuple[tuple[str, str], ...] = ()
    name: str = ""


@dataclass(frozen=True)
class Exchange:
    """One call. ``before`` messages of what it was sent are as the call before left them."""

    call: Call
    before: int
    heard: list[Said]
    answer: Said
    spans: Spans | None
    prompt: list[Token]
    spoken: list[Token]

    @property
    def prompt_hidden(self) -> int:
        """Tokens of the prompt that are not shown."""
        return len(self.spans.prompt) - len(self.prompt) if self.spans else 0

    @property
    def spoken_hidden(self) -> int:
        """Tokens of the answer that are not shown."""
        return len(self.spans.answer) - len(self.spoken) if self.spans else 0


def exchanges(calls: Sequence[Call], page: int) -> list[Exchange]:
    """The calls of a page, from 1 on."""
    first = (page - 1) * CALLS_A_PAGE
    found = spans(calls)
    places = range(first, min(first + CALLS_A_PAGE, len(calls)))
    return [_exchange(calls[place], calls[place - 1] if place else None, found[place]) for place in places]


def _exchange(call: Call, earlier: Call | None, found: Spans | None) -> Exchange:
    before = 0
    if earlier is not None:
        for mine, theirs in zip(call.messages, [*earlier.messages, earlier.response], strict=False):
            if _key(mine) != _key(theirs):
                break
            before += 1
    prompt: list[Token] = []
    spoken: list[Token] = []
    if found is not None:
        start = max(0, len(found.prompt) - PROMPT_SHOWN)
        prompt = [Token(one, None, place < found.repeated) for place, one in enumerate(found.prompt) if place >= start]
        shown = zip(found.answer[:ANSWER_SHOWN], found.logprobs, strict=False)
        spoken = [Token(one, logprob) for one, logprob in shown]
    heard = [said(message) for message in call.messages[before:]]
    return Exchange(call, before, heard, said(call.response), found, prompt, spoken)


def _key(message: Message) -> tuple[Any, ...]:
    """Reasoning may be taken out of what is sent again."""
    return message.role, message.content or "", message.tool_calls or [], message.tool_call_id


def said(message: Message) -> Said:
    """The message as it is shown."""
    content = message.content or ""
    cut = len(content) if len(content) <= LONG else LONG // 4
    return Said(
        role=message.role,
        text=content[:cut],
        rest=content[cut:],
        reasoning=message.reasoning_content or "",
        tools=tuple(_tool(one) for one in message.tool_calls or ()),
        name=message.name or message.tool_call_id or "",
    )


def _tool(call: dict[str, Any]) -> tuple[str, str]:
    """Name and arguments of a tool call; whatever else an agent sent is shown as it is."""
    function = call.get("function")
    if not isinstance(function, dict):
        return "tool call", json.dumps(call, ensure_ascii=False, indent=1)
    arguments = function.get("arguments", "")
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False, indent=1)
    return str(function.get("name", "")), arguments
