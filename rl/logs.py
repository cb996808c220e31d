"""Lines of a log that say which job they are about: as JSON objects, or as text with a suffix.

Text: ``[...] job 7 was handed back {job=7 fence=2 window=2025-01-15T10:00 line=main}``
JSON: ``{"ts", "level", "logger", "message", "job", "fence", "window", "line", "task_id", "task", "exception"}``
"""

from __future__ import annotations

import copy
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, Literal

from rl.masking import masked

Kind = Literal["text", "json"]

_about: ContextVar[Mapping[str, object]] = ContextVar("about")
TASK: Final = ("task_id", "task_name")
"""What Celery's own filter writes on a record of a task."""
LONGEST: Final = 16_000
"""Characters of a message or an exception: whoever collects logs cuts lines somewhere too."""
UNKNOWN: Final = ("???", None)
CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
"""What ends a line or commands a terminal; a tab does neither."""
LINE_END: Final = re.compile(r"[\x0a-\x0d\x1c-\x1e\x85\u2028\u2029]")


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
        return json.dumps({name: _whole(value) for name, value in line.items()}, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """What another formatter makes of a record, masked, and what the line is about at the end of it.

    A record is one line, with control characters escaped, so that nobody whose words are logged writes lines of a
    log. Lines of a traceback follow, indented.
    """

    def __init__(self, inner: logging.Formatter | None = None) -> None:
        super().__init__()
        self.inner = inner or logging.Formatter("[%(asctime)s: %(levelname)s/%(name)s] %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        one = copy.copy(record)
        one.msg, one.args = _escaped(CONTROL, masked(record.getMessage())), None
        one.exc_info = one.exc_text = one.stack_info = None
        # Celery colours what it formats, and knows the task's id, which a sender of messages chose.
        line = _escaped(LINE_END, masked(self.inner.format(one)))
        fields = " ".join(f"{name}={value}" for name, value in known().items())
        further = [self.inner.formatException(record.exc_info)] if record.exc_info else [record.exc_text or ""]
        further.append(record.stack_info or "")
        lines = [f"{line} {{{_escaped(CONTROL, fields)}}}" if fields else line]
        lines += [f"  {_escaped(CONTROL, said)}" for part in further if part for said in masked(part).split("\n")]
        return str(_whole("\n".join(lines)))


def _escaped(characters: re.Pattern[str], said: str) -> str:
    return characters.sub(lambda found: repr(found[0])[1:-1], said)


def _whole(value: object) -> object:
    """Text with halves of pairs written out: no encoding takes them, and a handler would lose the line."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


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
