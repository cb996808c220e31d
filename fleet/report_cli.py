"""``rlfleet report``: three plots and a table of a run, a version, or a published table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet.terminal import AsJson, connect, console, say
from rl.errors import InvalidInput, StartError

if TYPE_CHECKING:
    from rich.table import Table

    from rl.report import Count, Point, Report


def report(
    name: Annotated[str | None, typer.Argument(help="a run, or a version; v1.0.3 of the line too")] = None,
    table: Annotated[
        str | None, typer.Option("--from", metavar="FILE", help="a table as `rlfleet select` reads it; - is stdin")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="write a page there that needs nothing else")] = None,
    png: Annotated[Path | None, typer.Option(help="write the plots there")] = None,
    line: Annotated[str, typer.Option(help="the line of versions")] = "main",
    as_json: AsJson = False,
) -> None:
    """What came of a run or a training, with 80 % intervals. Exit code 1 when nothing can be ranked."""
    if (name is None) == (table is None):
        raise InvalidInput("name", name, "name a run or a version, or give --from FILE, and not both")
    found = _read(str(name), line) if table is None else _of_file(table)
    _write(found, html, png)
    if as_json:
        typer.echo(json.dumps(found.as_json()))
    else:
        show(found)
        for file in (html, png):
            if file is not None:
                say(f"wrote {file}")
    raise typer.Exit(0 if found.pick is not None else 1)


def _read(name: str, line: str) -> Report:
    from db import report as stored
    from db.session import transaction

    connect()
    with transaction() as session:
        return stored.report(session, name, line)


def _of_file(file: str) -> Report:
    from fleet.select_cli import is_csv, read_json, read_text
    from rl.published import read_rows
    from rl.published_csv import rows_of_csv
    from rl.report import of_table

    text = read_text(file)
    held = rows_of_csv(text) if is_csv(file, text) else read_json(text, file)
    return of_table(read_rows(held), "a published table" if file == "-" else Path(file).stem)


def _write(found: Report, html: Path | None, png: Path | None) -> None:
    """Raises InvalidInput for a file that cannot be written, and StartError without matplotlib."""
    option, file = "html", html
    try:
        if html is not None:
            from fleet import report_page

            report_page.write(found, html)
        option, file = "png", png
        if png is not None:
            from fleet import report_plots

            report_plots.png(found, png)
    except ImportError as error:
        raise StartError(f"{error}: plots need matplotlib; install rlfleet[fleet]") from None
    except OSError as error:
        raise InvalidInput(option, str(file), f"it cannot be written: {error.strerror}") from None


def show(found: Report) -> None:
    """Print the counts, the choice, and what the data do not tell."""
    from fleet.report_words import chosen, findings

    console.print(_table(found))
    say(f"{found.title}; judged on {found.judged_on}; intervals hold 80 %")
    for words in findings(found).values():
        for one in words:
            say(one)
    if found.size is not None:
        say(found.size.statement)
    if found.decision:
        say(found.decision)
    say(f"{chosen(found)} {found.reason}")


def _table(found: Report) -> Table:
    from rich.table import Table
    from rich.text import Text

    from fleet.report_words import columns, remarks

    table = Table(padding=(0, 0))
    for head in columns(found):
        table.add_column(Text(head))
    for one in found.points:
        score = "" if one.training_score is None else f"{one.training_score:.4g}"
        cells = [_cell(one.types.get(name)) for name in found.types] + [
            _cell(one.overall),
            score,
            f"{one.coverage:.0%}",
        ]
        style = "bold" if one.picked else None
        table.add_row(_label(one), *cells, Text(", ".join(remarks(found, one))), style=style)
    return table


def _label(one: Point) -> str:
    return f"{one.label}*" if one.tied else one.label


def _cell(count: Count | None) -> str:
    return "" if count is None else f"{count.k}/{count.n}\n{count.low:.2f}-{count.high:.2f}"
