"""``rlfleet status``: is the fleet well, and if not, what to do."""

from __future__ import annotations

import json
import os
from typing import Annotated, Any

import typer
from rich.table import Table

from fleet.terminal import AsJson, say, wide_console


def status(
    everything: Annotated[
        bool, typer.Option("--all", help="with --json: lines, jobs, workers, pauses, rejections and alerts too")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Processes, queues, devices, what is live and where; then lines, jobs, workers. Exit code 0 only when healthy."""
    from fleet import status as details
    from fleet import summary

    found = summary.read(os.environ)
    rows = details.read() if found.has_rows and (everything or not as_json) else None
    if as_json:
        typer.echo(json.dumps(found.shown() | (rows or {})))
    else:
        _show(found.shown())
        if rows is not None:
            details.show(rows)
    raise typer.Exit(0 if found.status == "healthy" else 1)


def _show(found: dict[str, Any]) -> None:
    say(f"status: {found['status']}")
    for words in found["reasons"]:
        say(f"  {words}")
    if found["processes"]:
        table = Table("process", "pid", "state", "restarts")
        for one in found["processes"]:
            restarts = "-" if one["restarts"] is None else str(one["restarts"])
            table.add_row(one["name"], str(one["pid"] or "-"), one["state"], restarts)
        wide_console().print(table)
    for one in found["queues"]:
        oldest = "" if one["oldest_seconds"] is None else f", the oldest for {one['oldest_seconds']:.0f} s"
        counts = f"{one['depth']} due{oldest}, {one['waiting']} waiting, {one['running']} running"
        say(f"queue {one['name']}: {counts}; workers for {one['capacity']} at once")
    for one in found["gpus"]:
        room = one["memory"]
        taken = f", {room['used_mib']} of {room['total_mib']} MiB taken" if room else ""
        say(f"device {one['device']} of {one['worker']}: {one['doing']}{taken}")
    for name, url in found["urls"].items():
        if url:
            say(f"{name}: {url}")
