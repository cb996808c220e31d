"""Tool calls in what a model says, as Qwen3 and Hermes write them: ``<tool_call>{"name", "arguments"}</tool_call>``."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from typing import Any

MARKS = ("\n<tool_call>", "<tool_call>")
"""From the first of these on, text may belong to a call. The line break before it is the template's."""

WRITES_JSON = re.compile(r"\.arguments\s*\|\s*tojson")
"""In a template that writes arguments as JSON itself: as a string within a string, where they are text already."""

BLOCK = re.compile(r"\n?<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)


def split(text: str) -> tuple[str, list[dict[str, Any]]]:
    """The content and OpenAI's ``tool_calls``; a block that is no call stays content as it was spoken."""
    calls: list[dict[str, Any]] = []

    def taken(block: re.Match[str]) -> str:
        function = _function(block[1])
        if function is None:
            return block[0]
        calls.append({"id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": function})
        return ""

    content = BLOCK.sub(taken, text)
    return content, calls


def as_objects(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message with the arguments of its calls as objects, as far as their text is one."""
    calls = message.get("tool_calls")
    return dict(message) | ({"tool_calls": [_with_object(call) for call in calls]} if calls else {})


def _with_object(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return dict(call)
    try:
        said = _parsed(function["arguments"])
    except (ValueError, RecursionError):
        return dict(call)
    return dict(call) | ({"function": function | {"arguments": said}} if isinstance(said, dict) else {})


def _parsed(text: str) -> Any:
    """The JSON value. An escape that is half of a surrogate pair, which no tokenizer reads, becomes ``?``.

    Raises:
        ValueError: it is no JSON.
        RecursionError: it is nested too deeply.
    """
    return json.loads(json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8", "replace"))


def _function(block: str) -> dict[str, str] | None:
    """Name and arguments, these as JSON text; None where the block says no such thing."""
    try:
        said = _parsed(block)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or set(said) - {"name", "arguments"}:
        return None
    name, arguments = said.get("name"), said.get("arguments", {})
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        return None
    return {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
