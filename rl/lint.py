"""Whether published rates can be what they say they are: k of n successes that add up to the overall.

Every rate must be k/n for a whole k, within 0.001, because sources round or cut. One cell of a row that cannot be is
recomputed from the overall; with two, or without an overall, the row stays unresolved. A type of more than 500
verdicts cannot be told to be wrong in this way: each rate is near some k/n.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from rl.published import Cell, PublishedRow
from rl.records import Record
from rl.selection import shown

TOLERANCE = Fraction(1, 1000)
OVERALL = "overall"


class Lint(Record):
    """A published number that cannot be. ``k`` of ``n`` is what it must have been; None where nobody can tell.

    ``type`` is ``overall`` for the row's own rate.
    """

    step: int
    type: str
    published: float
    k: int | None
    n: int


class Linted(Record):
    """Counts of one row, what is wrong with its numbers, and why they cannot be used; empty when they can."""

    counts: dict[str, tuple[int, int]]
    lint: list[Lint]
    unresolved: str = ""


def nearest(rate: float, n: int) -> tuple[int, bool]:
    """The k for which k/n is nearest to the rate, and whether it is within the tolerance. ``n`` is at least 1."""
    exact = Fraction(str(rate))
    k = (exact * n + Fraction(1, 2)).__floor__()
    return k, abs(Fraction(k, n) - exact) <= TOLERANCE


def lint(row: PublishedRow) -> Linted:
    """The counts of a row. Of a cell that cannot be resolved there are none."""
    counts: dict[str, tuple[int, int]] = {}
    flags, impossible = [], []
    for name, cell in sorted(row.types.items()):
        k, fits = _read(cell)
        if not fits:
            flags.append(Lint(step=row.step, type=name, published=cell.rate or 0.0, k=cell.k, n=cell.n))
        if fits or cell.k is not None:
            counts[name] = (k, cell.n)
        else:
            impossible.append(name)
    if len(impossible) > 1:
        return Linted(counts=counts, lint=flags, unresolved=_two(row, impossible))
    total = sum(cell.n for cell in row.types.values())
    if row.overall is None or total == 0:
        reason = f"{_cell(row, impossible[0])} and there is no overall to recompute it from" if impossible else ""
        return Linted(counts=counts, lint=flags, unresolved=reason)
    if impossible:
        return _recomputed(row, row.overall, total, counts, flags, impossible[0])
    return _added_up(row, row.overall, total, counts, flags)


def _read(cell: Cell) -> tuple[int, bool]:
    """Successes, as given or nearest to the rate, and whether the rate can be."""
    if cell.rate is None or cell.n == 0:
        return cell.k or 0, True
    k, fits = nearest(cell.rate, cell.n)
    if cell.k is not None:
        return cell.k, abs(Fraction(cell.k, cell.n) - Fraction(str(cell.rate))) <= TOLERANCE
    return k, fits


def _recomputed(
    row: PublishedRow,
    overall: float,
    total: int,
    counts: Mapping[str, tuple[int, int]],
    flags: list[Lint],
    name: str,
) -> Linted:
    """The counts with the one impossible cell as what the overall leaves for it."""
    n = row.types[name].n
    whole, fits = nearest(overall, total)
    k = whole - sum(k for k, _ in counts.values())
    if not fits:
        flags = [*flags, Lint(step=row.step, type=OVERALL, published=overall, k=None, n=total)]
        reason = f"{_cell(row, name)} and neither can the overall {overall:g} of {total}"
    elif not 0 <= k <= n:
        reason = f"{_cell(row, name)} and the overall {shown((whole, total))} leaves {k} of {n} for it"
    else:
        known = [one.model_copy(update={"k": k}) if one.type == name and one.k is None else one for one in flags]
        return Linted(counts={**counts, name: (k, n)}, lint=known)
    return Linted(counts=dict(counts), lint=flags, unresolved=reason)


def _added_up(
    row: PublishedRow, overall: float, total: int, counts: Mapping[str, tuple[int, int]], flags: list[Lint]
) -> Linted:
    """The counts, all possible by themselves, held against the overall."""
    sum_k = sum(k for k, _ in counts.values())
    if abs(Fraction(sum_k, total) - Fraction(str(overall))) <= TOLERANCE:
        return Linted(counts=dict(counts), lint=flags)
    counted = all(cell.k is not None or cell.n == 0 for cell in row.types.values())
    whole, fits = nearest(overall, total)
    certain = counted or not fits
    flag = Lint(step=row.step, type=OVERALL, published=overall, k=sum_k if certain else None, n=total)
    reason = (
        f"its types add up to {shown((sum_k, total))}, its overall says {shown((whole, total))}{_macro(row, overall)}"
    )
    return Linted(counts=dict(counts), lint=[*flags, flag], unresolved="" if certain else reason)


def _macro(row: PublishedRow, overall: float) -> str:
    rates = [Fraction(str(cell.rate)) for cell in row.types.values() if cell.rate is not None]
    if len(rates) > 1 and abs(sum(rates, Fraction(0)) / len(rates) - Fraction(str(overall))) <= TOLERANCE:
        return ", which is the mean of the types' rates: leave it out"
    return ""


def _cell(row: PublishedRow, name: str) -> str:
    cell = row.types[name]
    return f"{name} {cell.rate:g} is no count of {cell.n},"


def _two(row: PublishedRow, names: list[str]) -> str:
    cells = " and ".join(f"{name} {row.types[name].rate:g} of {row.types[name].n}" for name in names)
    return f"{len(names)} cells cannot be counts: {cells}; the overall can resolve one"
