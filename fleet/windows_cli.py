"""``rlfleet windows``: how far each window of a line has come, and what the next training waits for."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from fleet.terminal import AsJson, connect, console, say
from rl.readiness import Readiness

COLUMNS = ("window", "state", "trajectories", "groups", "scored", "quarantined", "version", "reason")


def windows(
    line: Annotated[str, typer.Option(help="the line of versions")] = "main",
    as_json: AsJson = False,
) -> None:
    """The line's windows, oldest first, and whether what waits in them is enough to train on."""
    from db import lineage, lines, readiness
    from db.session import transaction

    connect()
    with transaction() as session:
        row = lines.named(session, line)
        found, ready = lineage.window_rows(session, row.id), readiness.readiness_of(session, row)
    if as_json:
        typer.echo(json.dumps({"schema": 1, "line": line, "windows": found, "readiness": ready.model_dump()}))
        return
    _show(found)
    say(f"readiness: {_words(ready)}")


def _show(found: list[dict[str, Any]]) -> None:
    table = Table()
    for column in COLUMNS:
        table.add_column(column, justify="right" if column in COLUMNS[2:6] else "left", overflow="fold")
    for one in found:
        counts = [str(one[name]) for name in COLUMNS[2:6]]
        versions = ", ".join(one["versions"]) or "-"
        words = [one["name"], one["state"], *counts, versions, one["reason"] or ""]
        table.add_row(*(escape(word) for word in words))
    console.print(table)


def _words(found: Readiness) -> str:
    stats = found.stats
    parts = [f"{stats.scored} scored", f"{stats.unscored} not scored", f"{stats.groups} groups"]
    if stats.quality is not None:
        parts.append(f"{stats.quality:.1%} of the last 7 days' rows usable")
    if stats.hours_since is not None:
        parts.append(f"{stats.hours_since:.1f} h since the last training")
    return f"{found.reason} ({', '.join(parts)})"
