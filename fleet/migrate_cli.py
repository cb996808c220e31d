"""``rlfleet migrate``: bring the database to the newest schema."""

from __future__ import annotations

import json
import os

import typer

from fleet.terminal import AsJson, say


def migrate(as_json: AsJson = False) -> None:
    """Bring the schema forward, and say from where to where. Safe beside a running fleet, and from several shells."""
    from db import migrate as schema
    from fleet import backup

    with backup.database(os.environ, create=True):
        before = schema.revision()
        schema.migrate()
        after = schema.revision()
    if as_json:
        typer.echo(json.dumps({"schema": 1, "before": before.current, "after": after.current}))
    elif before.is_newest:
        say(f"at revision {after.current} already")
    else:
        say(f"from {before.current or 'an empty database'} to revision {after.current}")
