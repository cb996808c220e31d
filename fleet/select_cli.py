"""``rlfleet select``: which checkpoint of a run, from published rates, counts or verdicts. It needs no fleet."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from fleet.terminal import AsJson
from rl.errors import InvalidInput


def select(
    file: Annotated[
        str | None, typer.Argument(help="JSON or CSV of held-out results by step; - is standard input")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="rank by weighted types: retrieval=1,update=2")] = None,
    power: Annotated[
        bool, typer.Option("--power", help="how many scenarios a difference needs; alone, or beside a choice")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Pick a checkpoint by held-out results; step 0 is the base. Exit code 1 when nothing can be ranked."""
    from fleet.select_tables import show, show_power
    from rl.choice import choose
    from rl.power import power_table
    from rl.published import read_rows
    from rl.published_csv import rows_of_csv

    needed = {"power": power_table()} if power else {}
    if file is None:
        if not power:
            raise InvalidInput("file", file, "name a file of results, or - for standard input; or give --power alone")
        if as_json:
            typer.echo(json.dumps({"schema": 1} | needed))
        else:
            show_power()
        return
    text = read_text(file)
    held = rows_of_csv(text) if is_csv(file, text) else read_json(text, file)
    choice = choose(read_rows(held), None if weights is None else read_weights(weights))
    if as_json:
        typer.echo(json.dumps(choice.as_json() | needed))
    else:
        show(choice, power=power)
    raise typer.Exit(0 if choice.pick is not None else 1)


def read_text(file: str) -> str:
    """What the file holds, or standard input.

    Raises:
        InvalidInput: it cannot be read, is empty, or is not UTF-8.
    """
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise InvalidInput("file", file, f"name a file that can be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidInput("file", file, "write it as JSON or CSV in UTF-8") from None
    if not text.strip():
        raise InvalidInput("file", file, 'the file is empty; give {"rows": [...]}, or CSV')
    return text


def is_csv(file: str, text: str) -> bool:
    """Whether the file's name says so, or where it says neither, the text begins as no JSON does."""
    suffix = Path(file).suffix.lower()
    return suffix in (".csv", ".tsv") or (suffix != ".json" and not text.lstrip().startswith(("{", "[")))


def read_weights(text: str) -> dict[str, float]:
    """The weights in a text such as ``retrieval=1,update=2``.

    Raises:
        InvalidInput: it is written in another way, or names a type twice.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, weight = (words.strip() for words in part.rpartition("="))
        try:
            value = float(weight)
        except ValueError:
            value = math.nan
        if not name or name in found or not math.isfinite(value):
            raise InvalidInput("weights", text, "write type=weight, each type once, such as retrieval=1,update=2")
        found[name] = value
    return found


def read_json(text: str, file: str) -> object:
    """The JSON in the text of the file.

    Raises:
        InvalidInput: it is none, or an object names a key twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise InvalidInput("file", file, f'is not JSON at {place}; give {{"rows": [...]}}, or CSV') from None
    except (ValueError, RecursionError) as error:
        raise InvalidInput("file", file, f'is not JSON: {error}; give {{"rows": [...]}}, or CSV') from None


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise InvalidInput(name, value, "the same object has this key already; give each key once")
        found[name] = value
    return found
