"""``rlfleet import-openrlhf``: a training script of OpenRLHF as a config of ours, and what became of each flag."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fleet.terminal import UNBROKEN, AsJson, errors, wide_console
from rl.errors import InvalidInput

if TYPE_CHECKING:
    from rl.openrlhf import Imported

STDIN = Path("-")
TITLES = {
    "unknown": "nobody knows these flags",
    "unresolved": "whose value only the running script knows",
    "dead": "had no effect there",
    "mapped": "mapped",
    "no counterpart": "have no counterpart here",
}
"""What can become of a flag, what a person must look at first, and how it is called."""
STARTED = {"pipeline": "rlfleet run {file}", "run": "rlfleet run {file}", "line": "rlfleet line {name} {file}"}


def import_openrlhf(
    file: Annotated[Path, typer.Argument(help="a shell script or a command line; - reads it from stdin")],
    out: Annotated[Path | None, typer.Option(help="a new file for the TOML  [stdout]")] = None,
    environment: Annotated[str | None, typer.Option(help="what plays the scenarios that its data asked")] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="how many prompts or samples its data has")] = None,
    name: Annotated[str | None, typer.Option(help="of the run  [the file's]")] = None,
    given: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE of a variable that the script does not set itself")
    ] = None,
    nth: Annotated[int | None, typer.Option(min=1, help="which training, where the script starts several")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="a run from a line's stable version, not a pipeline")] = False,
    as_json: AsJson = False,
) -> None:
    """Map train_ppo_ray's or train_sft's flags to a config, and name the dead ones. Exit code 1 when some are unknown.

    The script is read, never run.
    """
    from rl.openrlhf import imported

    text = _read(file)
    called = name or _slug(file)
    variables = dict(map(_pair, given or []))
    found = imported(text, called, environment=environment, rows=rows, given=variables, nth=nth, plain=plain)
    if out is not None:
        _write(out, found.toml)
    if as_json:
        typer.echo(json.dumps(found.report() | {"out": str(out) if out else None}))
    else:
        _show(found, out, called)
    raise typer.Exit(0 if found.passed else 1)


def _read(file: Path) -> str:
    try:
        return sys.stdin.read() if file == STDIN else file.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput("file", str(file), f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidInput("file", str(file), "is no text in UTF-8") from None


def _write(out: Path, toml: str) -> None:
    try:
        with out.open("x", encoding="utf-8") as target:
            target.write(toml)
    except FileExistsError:
        raise InvalidInput("out", str(out), "is there already; name a new file") from None
    except OSError as error:
        raise InvalidInput("out", str(out), f"cannot be written: {error.strerror}") from None


def _slug(file: Path) -> str:
    """A run's name from the file's."""
    words = re.sub(r"[^a-z0-9_-]+", "-", file.stem.lower()).strip("-_")[:64]
    return words or "imported"


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise InvalidInput("set", text, "give NAME=VALUE")
    return name, value


def _show(found: Imported, out: Path | None, name: str) -> None:
    """The TOML on stdout and the table on stderr; where the TOML is in a file, the table on stdout."""
    if out is None:
        typer.echo(found.toml, nl=False)
        told = errors if errors.is_terminal else Console(stderr=True, width=UNBROKEN)
    else:
        told = wide_console()
    for fate, title in TITLES.items():
        rows = [row for row in found.rows if row.fate == fate]
        if rows:
            told.print(Text(f"{title} ({len(rows)})", style="bold"))
            table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
            for row in rows:
                becomes = "; ".join(part for part in (", ".join(row.keys), row.why) if part)
                table.add_row(Text(f"  {row.flag} {row.value}".rstrip()), Text(becomes))
            told.print(table)
    for title, lines in (("to be set by you", found.asked), ("known traps in this config", found.traps)):
        if lines:
            told.print(Text(title, style="bold"))
        for line in lines:
            told.print(Text(f"  {line}"), soft_wrap=True)
    if out is not None:
        told.print(Text(f"{out}: {STARTED[found.kind].format(file=out, name=name)}"), soft_wrap=True)
