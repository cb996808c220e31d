"""What agents hand over, as JSON: values that JSON lacks are replaced, counted, and logged once with their field."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections.abc import Callable, Mapping, Set
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import PurePath
from typing import Any
from uuid import UUID

from recorder.counts import Counts

DEEPEST = 64
LONGEST_ID = 200


def encode(value: object, field: str, counts: Counts) -> bytes:
    """The value as JSON in UTF-8, at this moment: what the agent changes later does not reach it.

    Dates, enums, UUIDs, paths, decimals, dataclasses, pydantic models and numpy's arrays and scalars become what a
    reader expects. Numbers that are not finite become null, and other objects the name of their type; both are counted.
    """
    try:
        return _ENCODER.encode(value).encode()
    except Exception:  # not JSON, not finite, circular, too deep, a lone surrogate, or an object's own failure
        return _ENCODER.encode(_clean(value, field, counts, 0)).encode()


def encode_object(value: object, field: str, counts: Counts) -> bytes:
    """The value as a JSON object; anything else is counted and stands in one as ``value``."""
    encoded = encode(value, field, counts)
    if encoded.startswith(b"{"):
        return encoded
    counts.bad(field, f"must be a mapping, not of type {type(value).__name__}")
    return b'{"value":%b}' % encoded


def moment(value: datetime | float | None = None) -> bytes:
    """ISO 8601 in UTC, as JSON. A number is seconds since the epoch; a datetime without a zone is UTC; None is now."""
    if value is None:
        value = datetime.now(UTC)
    elif not isinstance(value, datetime):
        value = datetime.fromtimestamp(value, UTC)
    elif value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return b'"%b"' % value.astimezone(UTC).isoformat().encode()


def number(value: object, field: str, counts: Counts) -> float | None:
    """The value as a finite number, or None, counted."""
    try:
        found = float(value)  # type: ignore[arg-type]  # whatever float() takes, numpy's scalars too
    except (TypeError, ValueError, OverflowError):
        counts.bad(field, f"is no number but of type {type(value).__name__}")
        return None
    if not math.isfinite(found):
        counts.bad(field, "is not a finite number")
        return None
    return found


def identifier(value: object, field: str, counts: Counts) -> str | None:
    """The value as an id of 1 to 200 characters, or None, counted."""
    if isinstance(value, int | UUID) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not 1 <= len(value) <= LONGEST_ID:
        counts.bad(field, f"must be text of 1 to {LONGEST_ID} characters")
        return None
    return value


def compose(kind: str, fields: Mapping[str, bytes | None]) -> bytes:
    """An event of that type from fields that are JSON already; those that are None are left out."""
    return joined({"type": b'"%b"' % kind.encode(), **fields})


def joined(fields: Mapping[str, bytes | None]) -> bytes:
    """A JSON object of fields that are JSON already; those that are None are left out."""
    return b"{%b}" % b",".join(
        b'"%b":%b' % (name.encode(), value) for name, value in fields.items() if value is not None
    )


def _plain(value: object) -> Any:
    """What JSON has for the object.

    Raises:
        TypeError: it has nothing.
    """
    for kind, convert in _KNOWN:
        if isinstance(value, kind):
            return convert(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if callable(dump := getattr(value, "model_dump", None)):
        return dump(exclude_none=True)
    if callable(as_list := getattr(value, "tolist", None)):  # numpy's arrays and scalars, torch's tensors
        return as_list()
    raise TypeError(type(value).__name__)


_KNOWN: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (date, lambda value: value.isoformat()),
    (enum.Enum, lambda value: value.value),
    (UUID, str),
    (PurePath, str),
    (Decimal, float),
    (Mapping, dict),
    (Set, lambda value: sorted(value, key=str)),
)
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)


def _clean(value: object, field: str, counts: Counts, depth: int) -> Any:
    if isinstance(value, float):
        return number(value, field, counts)
    if isinstance(value, str):
        return _text(value, field, counts)
    if value is None or isinstance(value, int):
        return value
    if depth == DEEPEST:
        counts.bad(field, f"is nested more than {DEEPEST} deep, or in itself")
        return None
    return _clean_inside(value, field, counts, depth + 1)


def _clean_inside(value: object, field: str, counts: Counts, depth: int) -> Any:
    if isinstance(value, Mapping):
        items = [(_text(str(key), field, counts), item) for key, item in value.items()]
        return {name: _clean(item, f"{field}.{name[:40]}", counts, depth) for name, item in items}
    if isinstance(value, list | tuple):
        return [_clean(item, field, counts, depth) for item in value]
    try:
        return _clean(_plain(value), field, counts, depth)
    except Exception:
        counts.bad(field, f"holds an object of type {type(value).__name__}, which is not JSON")
        return f"<{type(value).__name__}>"


def _text(value: str, field: str, counts: Counts) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        counts.bad(field, "holds half a surrogate pair")
        return value.encode(errors="replace").decode()
    return value
