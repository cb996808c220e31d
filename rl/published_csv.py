"""Published results as CSV, in two forms; both become the rows that ``rl.published`` reads.

Long, one line a step and type: ``step,type,k,n,rate,overall,training_score,turns,tokens``; what is the same for a step
may stand in one of its lines or in all. Wide, one line a step: ``step,retrieval.k,retrieval.n,retrieval.rate,overall``
and so on, or a column ``retrieval`` with ``15/16``. An empty cell is nothing known. Commas, semicolons or tabs.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from typing import Any

from rl.errors import InvalidInput
from rl.published import whole

OF_STEP = ("overall", "training_score", "turns", "tokens")
OF_CELL = ("k", "n", "rate")
COUNT = re.compile(r"\s*(\d+)\s*/\s*(\d+)\s*", re.ASCII)
WHOLE = re.compile(r"[+-]?\d{1,18}", re.ASCII)

Row = dict[str, Any]


def rows_of_csv(text: str) -> list[Row]:
    """The rows as a JSON file would hold them; ``rl.published.read_rows`` takes them.

    Raises:
        InvalidInput: a column is missing or unknown, or a line has another number of cells or says something twice.
    """
    lines = text.removeprefix("\ufeff").splitlines()
    header = lines[0] if lines else ""
    delimiter = next((mark for mark in ",;\t" if mark in header), ",")
    reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
    try:
        columns = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        found = [(reader.line_num, line) for line in reader]
    except csv.Error as error:
        raise InvalidInput(f"line {reader.line_num}", None, f"is not CSV: {error}") from None
    _check_columns(columns)
    for number, line in found:
        if None in line or None in line.values():
            raise InvalidInput(f"line {number}", len(columns), "give as many cells as there are columns")
    return _long(found) if "type" in columns else [_wide(number, line) for number, line in found]


def _check_columns(columns: list[str]) -> None:
    if "step" not in columns:
        raise InvalidInput("columns", columns, "name a column step; see the two forms of CSV in docs/selection.md")
    if twice := {name for name in columns if columns.count(name) > 1}:
        raise InvalidInput("columns", sorted(twice), "name each column once")
    if "type" not in columns:
        if parts := [name for name in OF_CELL if name in columns]:
            remedy = "of which type? Add a column type, one line a step and type, or name them as in retrieval.k"
            raise InvalidInput("columns", parts, remedy)
        return
    for name in columns:
        if name not in ("step", "type", *OF_CELL, *OF_STEP):
            known = ", ".join(("step", "type", *OF_CELL, *OF_STEP))
            raise InvalidInput("columns", name, f"unknown beside a column type; known are {known}")


def _long(lines: Iterable[tuple[int, Mapping[str, str]]]) -> list[Row]:
    rows: dict[int, Row] = {}
    for number, line in lines:
        step = _step(line["step"], number)
        row = rows.setdefault(step, {"step": step, "types": {}})
        _once(row, _values(line, OF_STEP, number), number)
        cell = _values(line, OF_CELL, number)
        name = line["type"].strip()
        if name:
            _once(row["types"], {name: cell or None}, number, again=name in row["types"])
        elif cell:
            raise InvalidInput(f"line {number}: type", "", f"name the type that {', '.join(cell)} is of")
    return list(rows.values())


def _wide(number: int, line: Mapping[str, str]) -> Row:
    row: Row = {"step": _step(line["step"], number), "types": {}}
    row |= _values(line, OF_STEP, number)
    for column, text in line.items():
        name, _, part = column.rpartition(".")
        if column == "step" or column in OF_STEP:
            continue
        if name and part in OF_CELL:
            cell = row["types"].setdefault(name, {})
            cell |= {} if not text.strip() else {part: _number(text, f"line {number}: {column}")}
        else:
            _once(row["types"], {column: _count(text, f"line {number}: {column}")}, number)
    return row | {"types": {name: cell or None for name, cell in row["types"].items()}}


def _count(text: str, place: str) -> Row | None:
    if not text.strip():
        return None
    if match := COUNT.fullmatch(text):
        return {"k": int(match[1]), "n": int(match[2])}
    raise InvalidInput(place, text, "give successes and verdicts as 15/16, or columns that end in .rate and .n")


def _values(line: Mapping[str, str], names: Iterable[str], number: int) -> Row:
    filled = {name: line[name] for name in names if line.get(name, "").strip()}
    return {name: _number(text, f"line {number}: {name}") for name, text in filled.items()}


def _number(text: str, place: str) -> int | float:
    try:
        return int(text) if WHOLE.fullmatch(text.strip()) else float(text)
    except ValueError:
        raise InvalidInput(place, text, "give a number; leave the cell empty where there is none") from None


def _step(text: str, number: int) -> int:
    place = f"line {number}: step"
    try:
        return whole(_number(text, place), place)
    except InvalidInput:
        raise InvalidInput(place, text, "give a whole number, 0 or more") from None


def _once(known: Row, said: Row, number: int, *, again: bool = False) -> None:
    """Add what a line says, unless something else was said before."""
    for name, value in said.items():
        if again or known.get(name, value) != value:
            raise InvalidInput(f"line {number}: {name}", value, f"an earlier line of this step says {known[name]}")
        known[name] = value
