"""``rlfleet runs``, ``resume`` and ``finish``: how far runs have come, and what becomes of one that waits."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from fleet.noted import noted
from fleet.terminal import MOST_ROWS, AsJson, connect, say, tell, wide_console

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

Name = Annotated[str, typer.Argument(metavar="RUN", help="the run's name")]


def runs(
    as_json: AsJson = False,
    last: Annotated[int, typer.Option(min=1, max=MOST_ROWS, help="how many of the newest runs")] = 5,
) -> None:
    """Rounds, versions, the best so far, alarms, what is waited for. Exit code 1 when a run waits for a person."""
    from db import runs as of_runs
    from db.session import transaction

    connect()
    with transaction() as session:
        found = [of_runs.told(session, run) for run in reversed(of_runs.newest(session, last))]
    ok = not any(_needs_a_person(one) for one in found)
    if as_json:
        typer.echo(json.dumps({"schema": 1, "ok": ok, "runs": found}))
    else:
        for one in found:
            _show(one)
        if not found:
            say("no runs yet; `rlfleet run FILE.toml` starts one")
    raise typer.Exit(0 if ok else 1)


def resume(name: Name, as_json: AsJson = False) -> None:
    """Have a paused run play further rounds. The patience of its early stop counts anew from here."""
    from db import runs as of_runs

    _change(name, "resume run", of_runs.resume, "goes on", as_json)


def finish(name: Name, as_json: AsJson = False) -> None:
    """Have a run open no further round, and decide on what was trained as if all rounds had been played."""
    from db import runs as of_runs

    _change(name, "finish run", of_runs.finish, "ends with what it has", as_json)


def _change(name: str, action: str, change: Callable[[Session, str], str], becomes: str, as_json: bool) -> None:
    from tasks.ring import advance

    connect()
    with noted(action, name) as session:
        line = change(session, name)
    rung = advance(line)
    tell(as_json, {"run": name, "line": line, "rung": rung}, f"run {name}: {becomes}; rang {len(rung)}")


def _needs_a_person(one: dict[str, Any]) -> bool:
    return one["state"] == "paused" or any("`rlfleet " in words for words in one["waits"])


def _show(one: dict[str, Any]) -> None:
    rounds = one["rounds"]
    head = (
        f"run {one['run']} on line {one['line']}: {one['state']}, {rounds['trained']} of {rounds['of']} rounds trained"
    )
    say(head + (f" ({one['reason']})" if one["reason"] else ""))
    table = Table("version", "state", "right", "posterior mean", "coverage", "training score", "")
    alarms: dict[str, list[str]] = {}
    for alarm in one["alarms"]:
        alarms.setdefault(alarm["version"], []).append(alarm["name"])
    for each in one["versions"]:
        label = each["version"]
        counts = "-" if each["counts"] is None else f"{each['counts'][0]}/{each['counts'][1]}"
        marks = [*(["best so far"] if label == one["best"] else []), *alarms.get(label, [])]
        if label in one["tie_set"] and label != one["best"]:
            marks.insert(0, "not told from the best")
        cells = [label, each["state"], counts, _number(each["mean"]), f"{each['coverage']:.0%}"]
        table.add_row(*map(Text, [*cells, _number(each["training_score"]), ", ".join(marks)]))
    wide_console().print(table)
    for alarm in one["alarms"]:
        say(f"{alarm['name']} at {alarm['version']}: {alarm['evidence']}")
    for words in one["remarks"]:
        say(f"note: {words}")
    for words in one["waits"]:
        say(f"waits: {words}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
