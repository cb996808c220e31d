"""How states, moments and numbers are written on the pages; filters of every template."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup, escape

from db import clock

TONES = {
    "good": ("succeeded", "trained", "stable", "ready", "healthy", "released", "finished", "ok", "done", "approved"),
    "info": ("running", "canary", "scored", "collected", "candidate"),
    "warn": ("paused", "degraded", "waiting", "refused", "starting", "blocked"),
    "bad": ("dead", "failed", "rejected", "silent", "unavailable", "rolled back"),
}
"""The class of the badge for a state; every other state is quiet."""
TONE_OF = {state: tone for tone, states in TONES.items() for state in states}
UNITS = ((86400, "d"), (3600, "h"), (60, "min"))
THOUSAND = 1000
COMMAND = re.compile("`([^`]+)`")


def tone(state: object) -> str:
    """The class of the badge for ``state``."""
    return TONE_OF.get(str(state), "quiet")


def moment_of(at: datetime | str) -> datetime:
    """A moment of the database, or one in ISO 8601, in UTC; one without a zone is UTC already."""
    found = datetime.fromisoformat(at) if isinstance(at, str) else at
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def iso(at: datetime | str) -> str:
    """``2025-01-15T10:00:00Z``."""
    return moment_of(at).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(at: datetime | str) -> str:
    """``2025-01-15 10:00 UTC``."""
    return moment_of(at).strftime("%Y-%m-%d %H:%M UTC")


def ago(at: datetime | str) -> str:
    """``5 min ago``, or ``in 5 min``, by the database's clock, as the moments of its rows are."""
    seconds = (clock.lately() - moment_of(at)).total_seconds()
    return f"{duration(seconds)} ago" if seconds >= 0 else f"in {duration(-seconds)}"


def duration(seconds: float) -> str:
    """``45 s``, ``3 min 20 s``, ``2 h 5 min``, ``4 d 3 h``: at most two units, and nothing below ``0 s``."""
    left = max(0, round(seconds))
    if left < UNITS[-1][0]:
        return f"{left} s"
    units = (*UNITS, (1, "s"))
    at = next(place for place, (size, _) in enumerate(units) if left >= size)
    (size, name), (smaller, its_name) = units[at], units[at + 1]
    rest = left % size // smaller
    return f"{left // size} {name}" + (f" {rest} {its_name}" if rest else "")


def number(value: float | None, digits: int = 3) -> str:
    """``12 345``, ``0.123``, ``1.2e-05``; a dash for None."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    if 0 < abs(value) < 10**-digits:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{digits}f}" if abs(value) < THOUSAND else f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def percent(value: float | None, digits: int = 1) -> str:
    """A share from 0 to 1 as ``62.5 %``; a dash for None."""
    return "\N{EN DASH}" if value is None else f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%"


def sentence(words: str) -> str:
    """The words with a capital and a full stop."""
    text = words.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?", ":", "`")) else ".") if text else ""


def code(words: str) -> Markup:
    """The words, what stands between backticks as code."""
    return Markup(COMMAND.sub(r"<code>\1</code>", str(escape(words))))  # noqa: S704 - the words were escaped


def pretty(value: Any, indent: int | None = 1) -> str:
    """JSON to be read: as it was written, and not for a script."""
    return json.dumps(value, ensure_ascii=False, indent=indent, default=str)


FILTERS: dict[str, Any] = {
    one.__name__: one for one in (tone, iso, moment, ago, duration, number, percent, sentence, code, pretty)
}
