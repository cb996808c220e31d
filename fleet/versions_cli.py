"""``rlfleet versions``: what was trained, what became of it, and how each did."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from fleet.terminal import MOST_ROWS, AsJson, connect, say, wide_console
from rl.errors import InvalidInput

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

STATES = ("candidate", "ready", "rejected")


def versions(
    name: Annotated[str | None, typer.Argument(help="one version: its checkpoints, evaluations and decisions")] = None,
    line: Annotated[str | None, typer.Option(help="only of this line; for a short name left out: main")] = None,
    state: Annotated[str | None, typer.Option(help="only candidate, ready or rejected ones")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MOST_ROWS, help="so many, the newest")] = 50,
    as_json: AsJson = False,
) -> None:
    """The versions, newest first; or one with its checkpoints, evaluations and decisions."""
    from db import lines, version_summaries
    from db.session import transaction

    if state is not None and state not in STATES:
        raise InvalidInput("state", state, f"give one of {', '.join(STATES)}")
    connect()
    with transaction() as session:
        if name is not None:
            found = _one(session, lines.full_name(session, name, line))
        else:
            if line is not None:
                lines.named(session, line)
            listed = version_summaries.listing(session, limit, line=line, state=state)
            found = {"versions": [asdict(one) for one in listed]}
    if as_json:
        typer.echo(json.dumps({"schema": 1, **found}))
    elif name is not None:
        _show_one(found)
    else:
        _show(found["versions"])


def _one(session: Session, name: str) -> dict[str, Any]:
    from db import evaluation_counts, version_summaries
    from db import versions as rows

    version, _ = rows.named(session, name)
    about = version_summaries.summary(session, name)
    return {
        "version": asdict(about) if about else None,
        "checkpoints": [asdict(one) for one in version_summaries.steps(session, version.id)],
        "evaluations": [asdict(one) for one in evaluation_counts.of_version(session, version)],
        "decisions": [asdict(one) for one in version_summaries.decisions(session, version.id)],
    }


def _show(found: list[dict[str, Any]]) -> None:
    table = Table("version", "line", "state", "live", "parent", "made", "reason")
    for one in found:
        live = f"{one['stage']} {one['share']} %" if one["stage"] else "-"
        row = [one["name"], one["line"], one["state"], live, one["parent"] or "-", one["created_at"], one["reason"]]
        table.add_row(*(Text(str(word or "")) for word in row))
    wide_console().print(table)


def _show_one(found: dict[str, Any]) -> None:
    one = found["version"]
    live = f", {one['stage']} for {one['share']} % of the agents" if one["stage"] else ""
    why = f": {one['reason']}" if one["reason"] else ""
    say(f"{one['name']} of line {one['line']}: {one['state']}{live}{why}")
    say(f"  from {one['parent'] or one['base_model']}, by job {one['job_id']}, {one['created_at']}")
    for step in found["checkpoints"]:
        own = ", the version's own" if step["is_own"] else ""
        gone = f", removed {step['removed_at']}" if step["removed_at"] else ""
        say(f"  step {step['step']}: {step['uri']}{own}{gone}")
    for judged in found["evaluations"]:
        told, overall = judged["task_set"], judged["overall"]
        scenarios = f"{told.get('environment', 'logs')} {told['split']}"
        rate = f"{overall['k']} of {overall['n']}, {overall['low']:.1%} to {overall['high']:.1%}"
        say(f"  evaluated at step {judged['step']} on {scenarios} by {judged['judge']}: {rate}")
    for decision in found["decisions"]:
        said = "released" if decision["released"] else "not released"
        say(f"  decided {decision['created_at']}: {said}: {decision['reason']}")
