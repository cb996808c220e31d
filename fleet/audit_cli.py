"""``rlfleet audit``: who asked for what, through the admin server or the command line."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from fleet.terminal import LARGEST_ID, MOST_ROWS, AsJson, connect, wide_console


def audit(
    limit: Annotated[int, typer.Option(min=1, max=MOST_ROWS, help="so many, the newest")] = 50,
    before: Annotated[
        int | None, typer.Option(min=1, max=LARGEST_ID, help="only those older than the entry of this id")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What people asked for, newest first, and whether it was done, refused or failed."""
    from db import audit as entries
    from db.session import transaction

    connect()
    with transaction() as session:
        found = entries.listing(session, limit, before)
    if as_json:
        typer.echo(json.dumps({"schema": 1, "entries": [asdict(one) for one in found]}))
        return
    table = Table("id", "at", "who", "action", "subject", "outcome", "from", "detail")
    for one in found:
        detail = json.dumps(one.detail) if one.detail else ""
        row = [one.entry_id, one.at, one.actor, one.action, one.subject, one.outcome, one.address, detail]
        table.add_row(*(Text(str(word)) for word in row))
    wide_console().print(table)
