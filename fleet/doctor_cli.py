"""``rlfleet doctor``: what could keep a fleet from working here, and the remedy of each."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from fleet.terminal import AsJson, wide_console
from rl.errors import RlfleetError

if TYPE_CHECKING:
    from fleet.doctor.finding import Finding

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(as_json: AsJson = False) -> None:
    """Check versions, ports, disk, memory, devices, sandbox, servers, store, lines, keys, clock. Exit 1 on a fail."""
    found = list(examine(os.environ.copy()))
    is_good = all(one.level != "fail" for one in found)
    if as_json:
        typer.echo(json.dumps({"schema": 1, "ok": is_good, "checks": [vars(one) for one in found]}))
    else:
        _show(found)
    raise typer.Exit(0 if is_good else 1)


def examine(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Every finding. A check that cannot be made is one that failed."""
    from fleet.doctor import lines, machine, mirrors, secrets, servers, store, variables, versions

    checks: dict[str, Callable[[], Iterable[Finding]]] = {
        "versions": versions.look,
        "variables": lambda: variables.look(environ),
        "ports": lambda: machine.ports(environ),
        "disk": lambda: machine.disk(environ),
        "memory": lambda: [machine.memory()],
        "devices": lambda: machine.devices(environ),
        "sandbox": lambda: [machine.sandbox()],
        "servers": lambda: servers.look(environ),
        "store": lambda: store.look(environ),
        "lines": lambda: lines.look(environ),
        "mirrors": lambda: mirrors.look(environ),
        "secrets": lambda: secrets.look(environ),
    }
    for name, look in checks.items():
        yield from _made(name, look)


def _made(name: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    from fleet.doctor.finding import fail

    try:
        yield from look()
    except Exception as error:
        said = str(error) if isinstance(error, OSError | RlfleetError) else type(error).__name__
        yield fail(name, f"could not be looked at: {said}", "correct what it names, and ask again")


def _show(found: Iterable[Finding]) -> None:
    table = Table("check", "", "found", "remedy")
    for one in found:
        table.add_row(one.check, Text(one.level, STYLES[one.level]), Text(one.words), Text(one.remedy))
    wide_console().print(table)
