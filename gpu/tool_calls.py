"""Tool calls in what a model says, as Qwen3 and Hermes write them: ``<tool_call>{"name", "arguments"}</tool_call>``."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

MARKS = ("\n<tool_call>", "<tool_call>")
"""From the first of these on, text may belong to a call. The line break before it is the template's."""

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


def _function(block: str) -> dict[str, str] | None:
    """Name and arguments, these as JSON text; None where the block says no such thing."""
    try:
        said = json.loads(block)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or set(said) - {"name", "arguments"}:
        return None
    name, arguments = said.get("name"), said.get("arguments", {})
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        return None
    return {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
