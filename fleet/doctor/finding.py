"""What one check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """``level`` is ``fail`` where a fleet cannot work so, ``warn`` where something is missing or about to be.

    ``remedy`` says what to do next; empty where nothing is to be done.
    """

    check: str
    level: Level
    words: str
    remedy: str = ""


def ok(check: str, words: str) -> Finding:
    """Nothing is to be done."""
    return Finding(check, "ok", words)


def warn(check: str, words: str, remedy: str) -> Finding:
    """It works, or some of it does."""
    return Finding(check, "warn", words, remedy)


def fail(check: str, words: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding(check, "fail", words, remedy)
