"""Health pages of our own servers, asked once."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any

SECONDS = 10.0
"""The gateway asks the database, and its engines, before it answers."""
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Said:
    """The status of an answer and its JSON; 0 where there was no answer."""

    status: int
    body: dict[str, Any] = field(default_factory=dict)


def ask(url: str, seconds: float = SECONDS) -> Said:
    """What the page at ``url`` says."""
    try:
        with OPENER.open(url, timeout=seconds) as answer:
            return Said(answer.status, _body(answer.read()))
    except urllib.error.HTTPError as error:
        with error:
            return Said(error.code, _body(error.read()))
    except (OSError, HTTPException):
        return Said(0)


def _body(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
