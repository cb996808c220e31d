"""``rlfleet windows``: how far each window of a line has come, and what the next training waits for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fleet.terminal import UNBROKEN, AsJson, connect, say, wide_console
from rl.readiness import Readiness

COLUMNS = ("window", "state", "trajectories", "groups", "scored", "quarantined", "version", "reason")
MOST = 1_000_000
"""Hours of more than a hundred years."""


def windows(
    line: Annotated[str, typer.Option(help="the line of versions")] = "main",
    limit: Annotated[int, typer.Option(min=1, max=MOST, help="so many, the newest")] = 100,
    as_json: AsJson = False,
) -> None:
    """The line's windows, oldest first, and whether what waits in them is enough to train on."""
    from db import lines, readiness, window_pages
    from db.session import transaction

    connect()
    with transaction() as session:
        row = lines.named(session, line)
        found, count = window_pages.newest(session, row.id, limit)
        ready = readiness.readiness_of(session, row)
    if as_json:
        about = {"schema": 1, "line": line, "windows": found, "count": count, "readiness": ready.model_dump()}
        typer.echo(json.dumps(about))
        return
    _show(found, wide_console())
    if len(found) < count:
        say(f"these are the newest {len(found)} of {count} windows; --limit {count} shows all")
    say(f"readiness: {_words(ready)}")


def _show(found: list[dict[str, Any]], screen: Console) -> None:
    """A table; where it is too wide, versions and reasons are lines of their own, so that no name is broken."""
    repeated = all(name in (one["reason"] or "") for one in found for name in one["versions"])
    table = _table(found, [name for name in COLUMNS if name != "version" or not repeated])
    if screen.measure(table, options=screen.options.update(width=UNBROKEN)).maximum <= screen.width:
        screen.print(table)
        return
    screen.print(_table(found, COLUMNS[:6]))
    for one in found:
        words = one["reason"] or ""
        told = [*(name for name in one["versions"] if name not in words), *([words] if words else [])]
        if told:
            say(f"{one['name']}: {', '.join(told)}")


def _table(found: list[dict[str, Any]], columns: Sequence[str]) -> Table:
    table = Table()
    for name in columns:
        numbers = name in COLUMNS[2:6]
        table.add_column(name, justify="right" if numbers else "left", overflow="fold", no_wrap=name == "window")
    for one in found:
        versions = ", ".join(one["versions"]) or "-"
        shown = one | {"window": one["name"], "version": versions, "reason": one["reason"] or ""}
        table.add_row(*(Text(str(shown[name])) for name in columns))
    return table


def _words(found: Readiness) -> str:
    stats = found.stats
    parts = [f"{stats.scored} scored", f"{stats.unscored} not scored", f"{stats.groups} groups"]
    if stats.held_out:
        parts.append(f"{stats.held_out} held out for evaluation")
    if stats.quality is not None:
        parts.append(f"{stats.quality:.1%} of the last 7 days' rows usable")
    if stats.hours_since is not None:
        parts.append(f"{stats.hours_since:.1f} h since the last training")
    return f"{found.reason} ({', '.join(parts)})"
