"""What is taken of a server's reply: the words of a chat completion, what it cost, an error's name, a time to wait."""

from __future__ import annotations

import json
import re
from typing import Any

from rl.judge_answers import Malformed

LONGEST_SECONDS = 60.0
"""Nobody waits longer, whatever a server asks for."""


def content(body: bytes) -> tuple[str | Malformed, tuple[int, int] | None]:
    """What the judge said, and the tokens it was charged for; None where it does not say."""
    try:
        answer = json.loads(body)
        said, stopped = answer["choices"][0]["message"]["content"], answer["choices"][0].get("finish_reason")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return Malformed("not a chat completion"), None
    return said if isinstance(said, str) else Malformed(f"no content (finish_reason {stopped!r:.40})"), _tokens(answer)


def _tokens(answer: dict[str, Any]) -> tuple[int, int] | None:
    usage = answer.get("usage")
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")] if isinstance(usage, dict) else []
    counted = [
        count for count in counts if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 2**31
    ]
    return (counted[0], counted[1]) if len(counted) == 2 else None


def code(body: bytes) -> str:
    """The server's word for an error. Never its message, which may quote a key or what was sent."""
    try:
        error = json.loads(body)["error"]
        word = error.get("code") or error.get("type")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ""
    return f" ({word})" if isinstance(word, str) and re.fullmatch(r"[A-Za-z0-9_.-]{1,60}", word) else ""


def retry_after(text: str) -> float:
    """Seconds of the ``Retry-After`` header within bounds; 0 where it is missing or a date."""
    return min(float(text), LONGEST_SECONDS) if re.fullmatch(r"\d{1,9}(\.\d+)?", text, re.ASCII) else 0.0
