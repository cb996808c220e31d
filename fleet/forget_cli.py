"""``rlfleet forget``: erase all that an agent said or did, and say what was made of it."""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.noted import noted, noted_where_it_breaks
from fleet.terminal import AsJson, say
from rl.errors import InvalidInput, TransientError

if TYPE_CHECKING:
    from db.forgetting import Forgotten


def forget(
    agent: Annotated[str, typer.Argument(help="the agent's id, as its trajectories have it")],
    line: Annotated[str | None, typer.Option(help="only on this line of versions; all of them without it")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask; it cannot be undone")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="count, and leave everything as it is")] = False,
    as_json: AsJson = False,
) -> None:
    """Erase all that an agent said or did, and list the datasets and versions that had any of it."""
    from db import forgetting
    from fleet import backup
    from tasks.prune import remove_dataset_files

    if not agent.strip():
        raise InvalidInput("agent", agent, "name an agent; an empty id is nobody's")
    if not (yes or dry_run):
        _ask(agent, line, as_json=as_json)
    with backup.database(os.environ) as root:
        if not dry_run:
            _say_so_first(agent, line)
        with nullcontext() if dry_run else noted_where_it_breaks("forget", agent):
            done = forgetting.forget(agent, line, partial(remove_dataset_files, root), dry_run=dry_run)
    found = _json(agent, line, done, dry_run=dry_run)
    if as_json:
        typer.echo(json.dumps(found))
    else:
        _show(found)
    if done.collecting:
        jobs = ", ".join(map(str, done.collecting))
        raise TransientError(f"job {jobs} began to collect before and may store more: run this again when it has ended")


def _say_so_first(agent: str, line: str | None) -> None:
    """Nothing is erased before the audit says who asked for it."""
    from db import lines

    with noted("forget", agent, line=line) as session:
        if line is not None:
            lines.named(session, line)


def _ask(agent: str, line: str | None, *, as_json: bool) -> None:
    if as_json:
        raise InvalidInput("--json", True, "nobody can be asked: give --yes, or --dry-run to look first")
    where = f"on line {line}" if line else "on all lines"
    typer.confirm(f"Erase all that agent {agent} said or did {where}? It cannot be undone", abort=True, err=True)


def _json(agent: str, line: str | None, done: Forgotten, *, dry_run: bool) -> dict[str, Any]:
    return {
        "schema": 1,
        "agent": agent,
        "line": line,
        "dry_run": dry_run,
        "erased": {name: count for name, count in done.counts.items() if count},
        "datasets": sorted(done.marked.datasets),
        "versions": sorted(done.marked.versions),
        "frozen_anew": sorted(done.marked.unfrozen),
        "files": done.files,
        "collecting": done.collecting,
    }


def _show(found: dict[str, Any]) -> None:
    verb = "would erase" if found["dry_run"] else "erased"
    counts = ", ".join(f"{count} {_plain(name, count)}" for name, count in found["erased"].items())
    if counts:
        say(f"{verb} of agent {found['agent']}: {counts}")
    else:
        say(f"no agent {found['agent']} is known; nothing was erased")
    marked = "would be marked" if found["dry_run"] else "marked"
    for kind in ("datasets", "versions"):
        if found[kind]:
            say(f"{marked}: {_plain(kind, len(found[kind]))} {', '.join(map(str, found[kind]))}")
    if found["frozen_anew"]:
        say(f"jobs whose next attempt freezes its dataset anew: {', '.join(map(str, found['frozen_anew']))}")
    if found["files"]:
        say(f"dataset files removed: {found['files']}")


def _plain(name: str, count: int) -> str:
    """The plural ``name`` of something as it is said of so many."""
    if count != 1:
        return name
    return f"{name[:-3]}y" if name.endswith("ies") else name.removesuffix("s")
