"""Logged requests for the tests of what reads them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}]
ANSWER = {"role": "assistant", "content": "4"}
AT = datetime(2025, 1, 15, 10, 5, tzinfo=UTC)


def request(messages: list[dict[str, Any]] = ASKED, **fields: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": messages, "temperature": 0.5, **fields}


def response(message: dict[str, Any] = ANSWER, number: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{number:020}",
        "object": "chat.completion",
        "created": int(AT.timestamp()),
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 1, "total_tokens": 21},
        **fields,
    }


def logged(number: int = 1, session: str | None = None, at: str = "2025-01-15T10:05:00Z", **fields: Any) -> str:
    line = {"timestamp": at, "request": request(), "response": response(number=number), **fields}
    return json.dumps(line | ({"metadata": {"session_id": session, **fields.get("metadata", {})}} if session else {}))


def spoilt(**fields: Any) -> str:
    return json.dumps({"timestamp": 1736935500, "request": request(), "response": response(), **fields})
