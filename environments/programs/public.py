"""Programs of a public data set, in a file of the user's: JSON lines or Parquet, with the columns of ``rl-python``.

A row has ``program``, ``inputs`` and ``output`` for an input to find, and ``prompt`` with ``verification_info`` or
``test_cases`` for a program to write. These are JSON or Python literals, in text or not. A row that cannot be used for
one of the two is left out there, and counted with the reason.
"""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from environments import sandbox
from environments.dealing import Bank, digest_of
from environments.programs.judging import Case
from environments.sandbox import Limits
from environments.settings import settings
from rl.errors import InvalidInput, InvalidRow, MissingDependency

LIMITS = Limits(wall_seconds=30.0, cpu_seconds=10)
MOST_CHARACTERS = 1_000_000
"""Of one value of a row."""

Content = TypeVar("Content")


class Puzzle(NamedTuple):
    """A program, an input of it, and the output that the data set tells for it."""

    program: str
    given: str
    output: str


class Problem(NamedTuple):
    """A task in words, its tests, and a program that is said to pass them."""

    prompt: str
    cases: tuple[Case, ...]
    program: str


class Rows:
    """The rows of a file, and why others cannot be used."""

    def __init__(self, path: Path) -> None:
        """Reads the file.

        Raises:
            MissingDependency: it is not there, or is Parquet and pyarrow is not.
            InvalidInput: it is neither JSON lines nor Parquet.
        """
        self.left_out: Counter[str] = Counter()
        self._rows = list(self._read(path))

    @cached_property
    def puzzles(self) -> Bank[Puzzle]:
        """Inputs to find, by program and output."""
        return self._bank("abd", puzzle_of, lambda row: [row.program, row.output])

    @cached_property
    def problems(self) -> Bank[Problem]:
        """Programs to write, by prompt."""
        return self._bank("ded", problem_of, lambda row: [row.prompt])

    def _bank(
        self, name: str, read: Callable[[Mapping[str, Any]], Content], key: Callable[[Content], Any]
    ) -> Bank[Content]:
        found: dict[str, Content] = {}
        left_out: Counter[str] = Counter()
        for row in self._rows:
            try:
                content = read(row)
                found.setdefault(digest_of(key(content)), content)
            except InvalidRow as error:
                left_out[f"{name}: {error.field} {error.remedy}"] += 1
            except (UnicodeEncodeError, RecursionError):
                left_out[f"{name}: no Unicode, or too deeply nested"] += 1
        self.left_out |= left_out  # twice the same where two threads do this
        return Bank(found)

    def _read(self, path: Path) -> Iterator[Mapping[str, Any]]:
        if not path.is_file():
            raise MissingDependency(f"{path} is missing: RLFLEET_PROGRAMS_DATA names a file of JSON lines or Parquet")
        if path.suffix == ".parquet":
            yield from _parquet(path)
            return
        try:
            with path.open(encoding="utf-8") as lines:
                yield from (row for row in map(self._line, lines) if row is not None)
        except UnicodeDecodeError as error:
            raise InvalidInput("RLFLEET_PROGRAMS_DATA", str(path), f"must be JSON lines in UTF-8 ({error})") from None

    def _line(self, line: str) -> Mapping[str, Any] | None:
        try:
            row = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):
            self.left_out["line is not JSON"] += 1
            return None
        if row is not None and not isinstance(row, dict):
            self.left_out["line is not an object"] += 1
            return None
        return row


def found() -> Rows:
    """The rows of the file that ``RLFLEET_PROGRAMS_DATA`` names, read once a process.

    Raises:
        MissingDependency: no file is named; and as ``Rows``.
        InvalidInput: as ``Rows``.
    """
    path = settings().programs_data
    if path is None:
        raise MissingDependency(
            "abd-public and ded-public play a data set with the columns of rl-python: download it and set "
            "RLFLEET_PROGRAMS_DATA to its file (JSON lines or Parquet), or play abd and ded"
        )
    return rows_of(path)


@cache
def rows_of(path: Path) -> Rows:
    """The rows of a file."""
    return Rows(path)


@lru_cache(maxsize=1000)
def output_of(puzzle: Puzzle) -> str:
    """What the program prints for its input here; what the data set tells where it does not end well."""
    ran = sandbox.run(puzzle.program, puzzle.given, limits=LIMITS)
    return ran.stdout if ran.outcome == "ok" and not ran.stderr and ran.stdout.strip() else puzzle.output


def puzzle_of(row: Mapping[str, Any]) -> Puzzle:
    """The input to find that a row holds.

    Raises:
        InvalidRow: a column is missing or empty.
    """
    return Puzzle(_text(row, "program"), text_of(row.get("inputs") or ""), _text(row, "output"))


def problem_of(row: Mapping[str, Any]) -> Problem:
    """The program to write that a row holds. Tests of unknown types are left out; one of a known type has to remain.

    Raises:
        InvalidRow: a column is missing or empty, there is no test, one has no output, or none asks for any.
    """
    column = next((name for name in ("verification_info", "test_cases") if row.get(name)), "verification_info")
    value = literal(row.get(column), column)
    tests = literal(value.get("test_cases"), column) if isinstance(value, Mapping) else value
    if not isinstance(tests, list):
        raise InvalidRow(column, value, "has no list of tests")
    cases = tuple(case for test in tests for case in case_of(test, column))
    if not cases:
        raise InvalidRow(column, value, "has no test of a known type")
    if not any(all(map(str.strip, case.accepted)) for case in cases):
        raise InvalidRow(column, value, "has no test that asks for output")
    return Problem(_text(row, "prompt"), cases, _text(row, "program"))


def case_of(test: Any, column: str) -> Iterator[Case]:
    """The test, if its type is known.

    Raises:
        InvalidRow: it has a known type and cannot be used.
    """
    kind = test.get("type") if isinstance(test, Mapping) else None
    if kind in {"stdin_stdout", "function_call"} and test.get("output") is None:
        raise InvalidRow(column, kind, "has a test without an output")
    if kind == "stdin_stdout":
        yield Case(text_of(test.get("input", "")), (text_of(test["output"]),))
    elif kind == "function_call":
        name = test.get("fn_name")
        if not isinstance(name, str) or not name.isidentifier():
            raise InvalidRow(column, name, "names no function")
        yield Case(repr(_arguments(test.get("input"), column)), _returned(test.get("output")), name)


def _arguments(value: Any, column: str) -> list[Any]:
    """The arguments of a call: a list, or text with one literal a line."""
    if isinstance(value, str):
        return [literal(line, column) for line in value.split("\n") if line.strip()]
    if not isinstance(value, list):
        raise InvalidRow(column, value, "has no list of arguments")
    return value


def _returned(value: Any) -> tuple[str, ...]:
    """How a returned value may be printed: as it is, with its lists' items on lines, or alone out of its list."""
    alone = [str(value[0])] if isinstance(value, list) and len(value) == 1 else []
    return tuple(dict.fromkeys([str(value), text_of(value), *alone]))


def text_of(value: Any) -> str:
    """Text as it is; the items of lists, however deep, a line each."""
    if isinstance(value, list):
        return "\n".join(map(text_of, value))
    return str(value)


def literal(value: Any, column: str) -> Any:
    """A value that text holds as JSON or as a Python literal; any other value as it is.

    Raises:
        InvalidRow: the text is neither, or very long.
    """
    if not isinstance(value, str):
        return value
    if len(value) <= MOST_CHARACTERS:
        for read in (json.loads, ast.literal_eval):
            try:
                return read(value)
            except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
                continue
    raise InvalidRow(column, value[:80], "is neither JSON nor a Python literal, or is too long")


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    text = text_of(value) if isinstance(value, str | list) else ""
    if not text.strip() or len(text) > MOST_CHARACTERS:
        raise InvalidRow(column, text[:80], "must be text, not empty and not very long")
    return text


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingDependency("Parquet needs pyarrow: install rlfleet[parquet]") from None
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=64):
                yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise InvalidInput("RLFLEET_PROGRAMS_DATA", str(path), f"must be Parquet ({error})") from None
