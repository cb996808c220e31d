"""Words of others that are logged: they write no line, command no terminal, and cost no line."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery.app.log import TaskFormatter

from rl import logs

FORGED = "[2025-01-15 10:00:00,000: ERROR/MainProcess] all is lost"


@pytest.fixture(autouse=True)
def _about_nothing() -> Iterator[None]:
    logs.about()
    yield
    logs.about()


def record(words: str, error: str | None = None) -> logging.LogRecord:
    """One with ``words`` as an argument, and an exception that says ``error``."""
    made = logging.LogRecord("tasks.score", logging.WARNING, __file__, 1, "took %s", (words,), None)
    try:
        if error is not None:
            raise ValueError(error)
    except ValueError as raised:
        made.exc_info = (type(raised), raised, raised.__traceback__)
    return made


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029"])
def test_nobody_writes_a_line_of_the_text(end: str) -> None:
    logs.about(job=7, line=f"main{end}{FORGED}")
    one = record(f"x{end}{FORGED}", f"no row{end}{FORGED}")
    one.stack_info = f"Stack:{end}{FORGED}"
    one.task_id, one.task_name = f"0b6e{end}{FORGED}", "rlfleet.score"
    inner = TaskFormatter("%(levelname)s %(task_name)s[%(task_id)s]: %(message)s", use_color=False)
    first, *further = logs.formatter("text", inner).format(one).splitlines()
    assert first.startswith("WARNING rlfleet.score[0b6e\\")
    assert first.count(FORGED) == 3
    assert further[0] == "  Traceback (most recent call last):"
    assert "  ValueError: no row" in [line.partition("\\")[0] for line in further]
    assert all(line.startswith("  ") for line in further)


def test_nobody_commands_a_terminal() -> None:
    text = logs.TextFormatter().format(record("a\tb \x1b[31mred\x7f", "\x1b]0;mine\x07\x9b2J"))
    assert text.partition("\n")[0].endswith("a\tb \\x1b[31mred\\x7f")
    assert text.endswith(r"  ValueError: \x1b]0;mine\x07\x9b2J")


def test_colours_of_celery_stay() -> None:
    inner = TaskFormatter("%(levelname)s: %(message)s", use_color=True)
    text = logs.TextFormatter(inner).format(record("\x1b[2J"))
    assert text.startswith("\x1b[")
    assert r"WARNING: took \x1b[2J" in text


@pytest.mark.parametrize("kind", ["text", "json"])
def test_half_of_a_pair_does_not_cost_the_line(kind: logs.Kind, tmp_path: Path) -> None:
    logs.about(line="a\udfff")
    handler = logging.FileHandler(tmp_path / "log", encoding="utf-8")
    handler.setFormatter(logs.formatter(kind))
    handler.handle(record("half \ud800", "half \ud801"))
    handler.close()
    written = (tmp_path / "log").read_text("utf-8")
    if kind == "text":
        assert r"half \ud800 {line=a\udfff}" in written
        assert written.endswith("  ValueError: half \\ud801\n")
    else:
        found = json.loads(written)
        assert (found["message"], found["line"]) == (r"took half \ud800", r"a\udfff")
        assert found["exception"].endswith(r"half \ud801")
