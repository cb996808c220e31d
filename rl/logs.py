"""Lines of a log that say which job they are about: as JSON objects, or as text with a suffix.

Text: ``[...] job 7 was handed back {job=7 fence=2 window=2025-01-15T10:00 line=main}``
JSON: ``{"ts", "level", "logger", "message", "job", "fence", "window", "line", "task_id", "task", "exception"}``
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, Literal

Kind = Literal["text", "json"]

_about: ContextVar[Mapping[str, object]] = ContextVar("about")
SECRET: Final = re.compile(r"\b([a-z][a-z0-9+.-]*://)[^\s/@'\"]*@", re.IGNORECASE)
"""User and password of a URL."""
BEARER: Final = re.compile(r"\b(Bearer|Basic)\s+[^\s'\",;]+", re.IGNORECASE)
TASK: Final = ("task_id", "task_name")
"""What Celery's own filter writes on a record of a task."""
LONGEST: Final = 16_000
"""Characters of a message or an exception: whoever collects logs cuts lines somewhere too."""
UNKNOWN: Final = ("???", None)


def about(**fields: object) -> None:
    """From now on every line is about these, also those of threads and coroutines that begin with this context."""
    _about.set(_given(fields))


@contextmanager
def only_about(**fields: object) -> Iterator[None]:
    """Lines of the block are about these, and after it about what they were about before."""
    token = _about.set(_given(fields))
    try:
        yield
    finally:
        _about.reset(token)


def _given(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


def known() -> dict[str, object]:
    """What lines are about now."""
    return dict(_about.get({}))


def masked(said: str) -> str:
    """The words without the user and password of any URL in them, and without tokens of headers."""
    return BEARER.sub(r"\1 ***", SECRET.sub(r"\1***@", said))


def formatter(kind: Kind, text: logging.Formatter | None = None) -> logging.Formatter:
    """For a handler; ``text`` is how it formatted before."""
    return JsonFormatter() if kind == "json" else TextFormatter(text)


class JsonFormatter(logging.Formatter):
    """One object a line. An exception with its traceback is one field."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": _short(record.getMessage()),
            **known(),
        }
        for name in TASK:
            if (value := getattr(record, name, None)) not in UNKNOWN:
                line["task" if name == "task_name" else name] = value
        if record.exc_info:
            line["exception"] = _short(self.formatException(record.exc_info))
        return json.dumps(line, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """What another formatter makes of a record, masked, and what the line is about at the end of its first line."""

    def __init__(self, inner: logging.Formatter | None = None) -> None:
        super().__init__()
        self.inner = inner or logging.Formatter("[%(asctime)s: %(levelname)s/%(name)s] %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        first, new_line, rest = masked(self.inner.format(record)).partition("\n")
        fields = " ".join(f"{name}={value}" for name, value in known().items())
        return f"{first} {{{fields}}}{new_line}{rest}" if fields else first + new_line + rest


def _short(said: str) -> str:
    said = masked(said)
    return said if len(said) <= LONGEST else f"{said[:LONGEST]}... ({len(said)} characters)"


def uvicorn_config(kind: Kind) -> dict[str, Any]:
    """How a server's process logs, as ``logging.config.dictConfig`` and uvicorn take it: everything to stderr."""
    handler = {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stderr"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": "rl.logs.formatter", "kind": kind}},
        "handlers": {"stderr": handler},
        "root": {"level": "WARNING", "handlers": ["stderr"]},
        "loggers": {"uvicorn": {"level": "INFO"}, "uvicorn.access": {"level": "WARNING"}},
    }
