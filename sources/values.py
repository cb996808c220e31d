"""Values as other people's logs hold them, taken as ours: JSON, numbers, moments, flags, and excerpts to show."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from rl import records
from rl.errors import InvalidRow
from rl.records import Quarantined
from rl.windows import WindowId


class Reason(StrEnum):
    """Why a row of a foreign database is quarantined: few words, so that counts by reason say something."""

    MISSING = "missing"
    """A field without which there is no trajectory has no value."""
    NOT_JSON = "not JSON"
    TOO_DEEP = "nested too deeply"
    TOO_MANY_DIGITS = "a number has too many digits"
    TOO_LARGE = "too large"
    NOT_A_LIST = "not a list"
    NOT_AN_OBJECT = "not an object"
    NO_STEPS = "no steps"
    NO_CALL = "no usable call"
    """No call has both a prompt and a response."""
    NOT_A_NUMBER = "not a finite number"
    NOT_A_MOMENT = "not a moment"
    NOT_A_WINDOW = "not an hour window"
    SYNTHETIC = records.SYNTHETIC
    """The id is of rows that were made up to try the system out."""
    EVALUATION = records.EVALUATION
    NOT_TRAINING = records.NOT_TRAINING


EXCERPT = 200
DEPTH = 64
"""Levels of JSON; what real agents log has fewer than ten."""

TO_CLEAN = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
"""Marks of characters that JSON can say and Postgres cannot hold. Most texts have none and need no second look."""

SECRET = re.compile(
    r"""
      (?P<before>://[^/\s:@"']*:)[^@\s"']+(?=@)                            # a password in a URL
    | (?P<scheme>\b(?:bearer|basic)\s+)[\w.~+/=-]+
    | (?P<name>\b[\w-]*(?:password|passwd|secret|api[_-]?key|access[_-]?token|authorization)\\?["']?\s*[:=]\s*\\?["']?)
      (?:(?:bearer|basic)\s+)?[^\s"',}\\]+
    | \b(?:sk|pk|rk|ghp|gho|github_pat|glpat|hf|xox[abp]|AKIA|AIza)[-_\w]{12,}
    | \beyJ[\w-]{8,}\.[\w-]+\.[\w-]*                                       # a JSON web token
    """,
    re.VERBOSE | re.IGNORECASE,
)


def quarantined(source: str, row: str, error: InvalidRow, text: str | None) -> Quarantined:
    """The row that ``error`` was raised for, with the beginning of its offending ``text``."""
    return Quarantined(
        source=source, row=tidy(row)[:EXCERPT], field=error.field, reason=error.remedy, excerpt=excerpt(text or "")
    )


def excerpt(text: str) -> str:
    """The first 200 characters as Postgres can hold them, with what looks like a secret replaced by ``***``."""
    return SECRET.sub(_hidden, tidy(text[: 5 * EXCERPT]))[:EXCERPT]


def _hidden(match: re.Match[str]) -> str:
    return next((kept for kept in match.groupdict().values() if kept), "") + "***"


def invalid(field: str, reason: Reason) -> InvalidRow:
    """The error of a row whose ``field`` cannot be used."""
    return InvalidRow(field, "<see excerpt>", str(reason))


def decode(text: str, field: str) -> tuple[Any, bool]:
    """The JSON value in ``text``, also where it was encoded twice, and whether it has to go through ``clean``.

    A number that is not finite stays the text that it is, ``"NaN"`` or ``"1e999"``.

    Raises:
        InvalidRow: it is not JSON, is nested deeper than 64 levels, or a number has thousands of digits.
    """
    try:
        value = json.loads(text, parse_float=_float, parse_constant=str)
        if isinstance(value, str) and value.lstrip()[:1] in {"[", "{"}:
            value = json.loads(value, parse_float=_float, parse_constant=str)
    except json.JSONDecodeError:
        raise invalid(field, Reason.NOT_JSON) from None
    except RecursionError:
        raise invalid(field, Reason.TOO_DEEP) from None
    except ValueError:
        raise invalid(field, Reason.TOO_MANY_DIGITS) from None
    if _too_deep(value):
        raise invalid(field, Reason.TOO_DEEP)
    return value, "\\u" in text and TO_CLEAN.search(text) is not None


MEMBERS = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)
SPACE = re.compile(r"[ \t\r\n]*")


def members(text: str) -> dict[str, Any]:
    """What the JSON object in ``text`` holds before the place from which on it is none; numbers stay text."""
    found: dict[str, Any] = {}
    place, expected = _after_space(text, 0), "{"
    try:
        while text[place : place + 1] == expected:
            name, place = MEMBERS.raw_decode(text, _after_space(text, place + 1))
            place = _after_space(text, place)
            if text[place : place + 1] != ":":
                break
            value, place = MEMBERS.raw_decode(text, _after_space(text, place + 1))
            if not _too_deep(value):
                found[tidy(str(name))] = value
            place, expected = _after_space(text, place), ","
    except (ValueError, RecursionError):
        pass  # what follows cannot be read
    return found


def _after_space(text: str, place: int) -> int:
    found = SPACE.match(text, place)
    return found.end() if found else place


def _float(text: str) -> float | str:
    value = float(text)
    return value if math.isfinite(value) else text


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEPTH):
        level = [
            child
            for one in level
            for child in (one.values() if isinstance(one, dict) else one if isinstance(one, list) else ())
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def clean(value: Any) -> Any:
    """``value`` with every text in it ``tidy``."""
    if isinstance(value, str):
        return tidy(value)
    if isinstance(value, dict):
        return {tidy(key): clean(one) for key, one in value.items()}
    return [clean(one) for one in value] if isinstance(value, list) else value


def tidy(text: str) -> str:
    """NUL becomes U+FFFD, and half of a surrogate pair becomes ``?``."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def number(value: object, field: str) -> float | None:
    """A finite number, also one written as text; None where there is none.

    Raises:
        InvalidRow: it is something else.
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise invalid(field, Reason.NOT_A_NUMBER)
    try:
        found = float(value)
    except (ValueError, OverflowError):
        raise invalid(field, Reason.NOT_A_NUMBER) from None
    if not math.isfinite(found):
        raise invalid(field, Reason.NOT_A_NUMBER)
    return found


def whole(value: object) -> int | None:
    """A whole number from 0 to 2³¹ - 1, also one written as text or with a zero fraction; None for anything else."""
    try:
        found = number(value, "")
    except InvalidRow:
        return None
    return int(found) if found is not None and found.is_integer() and 0 <= found < 2**31 else None


def moment(value: object, field: str) -> datetime | None:
    """A moment in UTC, from ISO 8601 (UTC where it names no zone) or an epoch in seconds or milliseconds.

    Raises:
        InvalidRow: it is something else, or outside of the years 1970 to 9998.
    """
    if value is None or value == "":
        return None
    try:
        found = _moment(value)
    except (ValueError, OverflowError, OSError, InvalidRow):
        raise invalid(field, Reason.NOT_A_MOMENT) from None
    if not 1970 <= found.year < 9999:
        raise invalid(field, Reason.NOT_A_MOMENT)
    return found


def _moment(value: object) -> datetime:
    if isinstance(value, str) and not re.fullmatch(r"\s*\d{9,}(\.\d*)?\s*", value):
        found = datetime.fromisoformat(value)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    seconds = number(value, "") or 0.0
    return datetime.fromtimestamp(seconds / 1000 if abs(seconds) >= 1e11 else seconds, UTC)


def flag(value: object) -> bool | None:
    """Yes or no, also as Postgres and JavaScript write it; None for anything else."""
    if isinstance(value, bool):
        return value
    return {"true": True, "t": True, "1": True, "yes": True, "false": False, "f": False, "0": False, "no": False}.get(
        str(value).strip().lower()
    )


def first(values: Mapping[str, Any], *names: str) -> Any:
    """The first of the values under ``names`` that is neither absent, None nor an empty text."""
    for name in names:
        found = values.get(name)
        if found is not None and found != "":
            return found
    return None


def overlaps(window: WindowId, since: datetime | None, until: datetime | None) -> bool:
    """Whether the hour has some moment from ``since`` to before ``until``."""
    if (hour := window.hour) is None:
        return False
    return (since is None or since - hour < timedelta(hours=1)) and (until is None or hour < until)
