"""``rlfleet token``: who may administer the fleet."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from fleet.noted import actor
from fleet.terminal import AsJson, connect, errors, tell, wide_console
from rl.errors import InvalidInput

FEWEST_DAYS, MOST_DAYS = 0.001, 36_500

token_app = typer.Typer(no_args_is_help=True, help="Tokens of the admin API and its pages: create, list, revoke.")


@token_app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="whose it is; decisions and the audit say it")],
    role: Annotated[str, typer.Option(help="viewer: look; operator: also change")] = "operator",
    days: Annotated[
        float | None, typer.Option(help="0.001 to 36500, how long it is good for; left out: until revoked")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and print it: it is shown this once."""
    from db import audit, tokens
    from db.session import transaction
    from rl.records import utc

    if days is not None and not FEWEST_DAYS <= days <= MOST_DAYS:
        remedy = f"give {FEWEST_DAYS} to {MOST_DAYS}; left out, the token is good until it is revoked"
        raise InvalidInput("days", days, remedy)
    connect()
    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    with transaction() as session:
        made = tokens.create(session, name, role, _me(), expires)  # type: ignore[arg-type]  # checked there
        detail = {"role": role} | ({"expires": utc(expires)} if expires else {})
        audit.note(session, _me(), "token create", name, "done", detail=detail)
    if as_json:
        typer.echo(json.dumps({"schema": 1, "name": name, "role": role, "token": made}))
        return
    typer.echo(made)
    errors.print("keep it: it is stored as a hash, and not shown again", highlight=False)


@token_app.command("list")
def listing(as_json: AsJson = False) -> None:
    """All tokens there ever were, without the tokens themselves."""
    from rich.table import Table

    from db import tokens
    from db.session import transaction

    connect()
    with transaction() as session:
        found = tokens.listing(session)
    if as_json:
        typer.echo(json.dumps({"schema": 1, "tokens": [asdict(one) for one in found]}))
        return
    table = Table("name", "role", "made by", "made", "used", "ends")
    for one in found:
        ends = f"revoked {one.revoked_at}" if one.revoked_at else one.expires_at or "-"
        table.add_row(one.name, one.role, one.created_by, one.created_at, one.used_at or "never", ends)
    wide_console().print(table)


@token_app.command("revoke")
def revoke(name: str, as_json: AsJson = False) -> None:
    """End a token now."""
    from db import audit, tokens
    from db.session import transaction

    connect()
    with transaction() as session:
        if not tokens.revoke(session, name):
            raise InvalidInput("name", name, "no live token has it; `rlfleet token list` shows them")
        audit.note(session, _me(), "token revoke", name, "done")
    tell(as_json, {"name": name, "revoked": True}, f"revoked {name}")


def _me() -> str:
    return f"{actor()}@shell"
