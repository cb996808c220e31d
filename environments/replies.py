"""What an environment hears of a model's reply, and what the reply adds to the conversation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from rl.records import Message

ONE_CALL = "One call at a time."


def action_of(reply: Message) -> str | None:
    """The first function that the reply calls, as ``{"name": ..., "arguments": {...}}``; None where it calls none.

    Arguments that are no JSON are the text that the model wrote.
    """
    if not reply.tool_calls:
        return None
    function = reply.tool_calls[0].get("function")
    called: Mapping[str, Any] = function if isinstance(function, dict) else {}
    arguments = called.get("arguments")
    if isinstance(arguments, str):
        with suppress(ValueError, RecursionError):
            return json.dumps({"name": called.get("name"), "arguments": json.loads(arguments)})
    return json.dumps({"name": called.get("name"), "arguments": arguments})


def follow(reply: Message, action: str | None, observation: str | None) -> list[Message]:
    """What the reply adds to the conversation. Of its function calls the first was heard, and each has an answer.

    ``action`` is the reply's ``action_of`` where functions were offered, else None.
    """
    if action is None:
        said = Message(role="assistant", content=reply.content or "")
        return [said, Message(role="user", content=observation)]
    answers = [observation] + [ONE_CALL] * (len(reply.tool_calls or []) - 1)
    calls = zip(reply.tool_calls or [], answers, strict=True)
    return [reply, *(Message(role="tool", tool_call_id=call.get("id"), content=said) for call, said in calls)]
