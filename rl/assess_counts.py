"""Counters that stay small however many rows they count."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from rl.records import Quarantined

Key = TypeVar("Key", bound=Hashable)

MOST_KEYS = 1000
EXAMPLES = 3
OTHERS = "(others)"


@dataclass
class Tally(Generic[Key]):
    """How often each key was seen. Keys after the first ``MOST_KEYS`` are counted together, in ``others``."""

    counts: Counter[Key] = field(default_factory=Counter)
    others: int = 0

    def add(self, key: Key) -> None:
        """Count ``key`` once more."""
        if key in self.counts or len(self.counts) < MOST_KEYS:
            self.counts[key] += 1
        else:
            self.others += 1

    def shown(self) -> dict[str, int]:
        """The most frequent first; equal ones by name."""
        ordered = sorted(self.counts.items(), key=lambda item: (-item[1], str(item[0])))
        return {str(key): count for key, count in ordered} | ({OTHERS: self.others} if self.others else {})


@dataclass(frozen=True)
class Range:
    """Mean, least and greatest of some counts."""

    mean: float
    least: int
    most: int


@dataclass
class Extent:
    """How many of something each trajectory has."""

    rows: int = 0
    total: int = 0
    least: int = 0
    most: int = 0

    def add(self, count: int) -> None:
        """Take one trajectory's count."""
        self.least = count if not self.rows else min(self.least, count)
        self.most = max(self.most, count)
        self.rows += 1
        self.total += count

    def range(self) -> Range | None:
        """None without a trajectory."""
        return Range(self.total / self.rows, self.least, self.most) if self.rows else None


@dataclass(frozen=True)
class Reason:
    """Why rows were left out, how many, and the first few of them."""

    source: str
    field: str
    reason: str
    count: int
    examples: list[dict[str, str]]


@dataclass
class Reasons:
    """Quarantined rows by source, field and reason. Places in a list do not tell fields apart: ``calls.*.turn``."""

    tally: Tally[tuple[str, str, str]] = field(default_factory=Tally)
    examples: dict[tuple[str, str, str], list[dict[str, str]]] = field(default_factory=dict)
    total: int = 0

    def add(self, row: Quarantined) -> None:
        """Count one row."""
        key = row.source, re.sub(r"\d+", "*", row.field), row.reason
        self.tally.add(key)
        self.total += 1
        if key in self.tally.counts:
            kept = self.examples.setdefault(key, [])
            if len(kept) < EXAMPLES:
                kept.append({"row": row.row, "excerpt": row.excerpt})

    def list(self) -> list[Reason]:
        """The most frequent first."""
        ordered = sorted(self.tally.counts.items(), key=lambda item: (-item[1], item[0]))
        found = [Reason(*key, count, self.examples[key]) for key, count in ordered]
        rest = self.tally.others
        return [*found, Reason(OTHERS, OTHERS, "more reasons than are told apart", rest, [])] if rest else found
