"""Which rows of a table may be ranked against each other: all were judged on the same scenarios, nearly all of them.

The types are those that most rows have; of equally many, step 0's, then the most types. The size of a type is the
most verdicts that any of these rows has. A row with fewer than 95 % of a type is left out, not filled up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from rl.records import Record
from rl.selection import MIN_COVERAGE

Counts = Mapping[str, tuple[int, int]]


class Coverage(Record):
    """Scenarios of each type, share of them with a verdict by step, and why steps cannot be ranked."""

    sizes: dict[str, int]
    share: dict[int, float]
    unresolved: dict[int, str]


def coverage(rows: Mapping[int, Counts], asked: Mapping[str, int] | None = None) -> Coverage:
    """What the rows, by step, have of the task set.

    ``asked`` is how many scenarios of a type are known to be there, verdict or not.
    """
    sizes = {name: max(counts.get(name, (0, 0))[1] for counts in rows.values()) for name in _types(rows)}
    sizes = {name: max(n, (asked or {}).get(name, 0)) for name, n in sizes.items()}
    total = sum(sizes.values())
    share, unresolved = {}, {}
    for step, counts in rows.items():
        n = sum(counts.get(name, (0, 0))[1] for name in sizes)
        share[step] = n / total if total else 0.0
        if reason := _reason(counts, sizes):
            unresolved[step] = reason
    return Coverage(sizes=sizes, share=share, unresolved=unresolved)


def _types(rows: Mapping[int, Counts]) -> list[str]:
    """The types with verdicts that most rows have."""
    judged = {step: tuple(sorted(name for name, (_, n) in counts.items() if n)) for step, counts in rows.items()}
    rows_with = Counter(names for names in judged.values() if names)
    ordered = sorted(rows_with, key=lambda names: (rows_with[names], names == judged.get(0), len(names), names))
    return list(ordered[-1]) if ordered else []


def _reason(counts: Counts, sizes: Mapping[str, int]) -> str:
    if not any(n for _, n in counts.values()):
        return "no verdicts"
    if other := sorted(name for name, (_, n) in counts.items() if n and name not in sizes):
        return f"judged on {', '.join(other)} too, which the others were not: another task set"
    lacking = []
    for name, size in sizes.items():
        n = counts.get(name, (0, 0))[1]
        if n < MIN_COVERAGE * size:
            lacking.append(f"{n} of {size} verdicts of {name}")
    if lacking:
        return f"only {' and '.join(lacking)}; at least {MIN_COVERAGE:.0%} are needed: evaluate the missing scenarios"
    return ""
