"""``rlfleet environments``: what can be played here, and whether each is what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import typer
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from fleet.terminal import AsJson, errors, wide_console
from rl.errors import MissingDependency

CHECK_SECONDS = 1800
"""For one environment: a thousand scenarios of the slowest take some minutes."""
ROW = (
    *("name", "profile", "oracle_success", "oracle_n", "random_success", "success_threshold", "scenarios"),
    *("steps_per_second", "peak_mb", "sandbox_level", "excluded", "note", "passed"),
)
"""What ``--check --json`` tells of each; ``python -m environments.check`` tells more of one."""


def environments(
    names: Annotated[
        list[str] | None, typer.Argument(help="the environments; all of the ten where none is named")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="play held-out scenarios of each")] = False,
    count: Annotated[int, typer.Option(min=1, help="with --check: so many scenarios")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the environments, or play each with its expert, by chance and in silence. Exit code 1 where one fails.

    As many are played at a time as there are processors.
    """
    from environments import KNOWN, TEN, load

    chosen = names or ([*TEN, "sat-compatible"] if check else sorted(KNOWN))
    for name in chosen:
        load(name)
    rows = _checked(chosen, count) if check else [_told(name) for name in chosen]
    rows += _families() if not (names or check) else []
    passed = all(row.get("passed", True) for row in rows)
    if as_json:
        told = [{key: row[key] for key in ROW} for row in rows] if check else rows
        typer.echo(json.dumps({"schema": 1, "passed": passed, "environments": told}))
    else:
        wide_console().print(_check_table(rows) if check else _list_table(rows))
    raise typer.Exit(0 if passed else 1)


def _told(name: str) -> dict[str, Any]:
    from environments import TEN, load

    one = load(name)
    return {
        "name": name,
        "profile": one.profile,
        "is_of_the_ten": name in TEN,
        "max_turns": one.max_turns,
        "max_tokens": one.max_tokens,
        "success_threshold": one.success,
        "sandboxed": one.sandboxed,
    }


def _families() -> list[dict[str, Any]]:
    """A row for each family of environments whose package is installed here."""
    from environments.reasoning.environment import FAMILY, datasets

    try:
        known = datasets()
    except MissingDependency:
        return []
    one = _told(f"{FAMILY}:{known[0]}")
    return [one | {"name": f"{FAMILY}:DATASET", "profile": f"{one['profile']}, {len(known)} data sets"}]


def _checked(names: Sequence[str], count: int) -> list[dict[str, Any]]:
    from environments.check import FEWER

    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True) as progress, ThreadPoolExecutor(os.cpu_count()) as pool:
        bar = progress.add_task("environments", total=len(names))

        def one(name: str) -> dict[str, Any]:
            row = _check(name, count)
            progress.advance(bar)
            return row

        begun = {name: pool.submit(one, name) for name in sorted(names, key=lambda name: name not in FEWER)}
        return [begun[name].result() for name in names]  # the slow ones are begun first


def _check(name: str, count: int) -> dict[str, Any]:
    """In a process of its own, so that the memory measured is one environment's and a crash is one row's."""
    words = [sys.executable, "-m", "environments.check", name, "--count", str(count)]
    try:
        ended = subprocess.run(words, capture_output=True, text=True, timeout=CHECK_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return _failed(name, f"not through after {CHECK_SECONDS} s")
    if ended.returncode != 0:
        said = ended.stderr.strip().splitlines() or [f"ended with {ended.returncode}"]
        return _failed(name, said[-1])
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def _failed(name: str, note: str) -> dict[str, Any]:
    """The row of an environment that could not be played; it has the same keys."""
    from environments import TEN, load

    one = load(name)
    said = {"name": name, "profile": one.profile, "oracle_n": 0, "success_threshold": one.success}
    return {**dict.fromkeys(ROW), **said, "excluded": name not in TEN, "note": note, "passed": False}


def _list_table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table("environment", "profile", "turns", "tokens a reply", "success from", "runs code")
    for row in rows:
        numbers = [str(row["max_turns"]), str(row["max_tokens"]), f"{row['success_threshold']:g}"]
        table.add_row(*map(Text, [row["name"], row["profile"], *numbers, "in the sandbox" if row["sandboxed"] else ""]))
    return table


def _check_table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table("environment", "profile", "expert", "chance", "silence", "held out", "steps/s", "MB", "sandbox", "")
    for row in rows:
        solved = [_solved(row.get(agent)) for agent in ("oracle", "random", "idle")]
        held = "endless" if row["oracle_n"] and row["scenarios"] is None else str(row["scenarios"] or "-")
        cost = ["-" if row[name] is None else f"{row[name]:,.0f}" for name in ("steps_per_second", "peak_mb")]
        words = "; ".join(part for part in ("passed" if row["passed"] else "failed", row["note"]) if part)
        table.add_row(
            *map(Text, [row["name"], row["profile"], *solved, held, *cost, row["sandbox_level"] or "", words])
        )
    return table


def _solved(baseline: dict[str, Any] | None) -> str:
    return "-" if baseline is None else f"{baseline['solved']} of {baseline['episodes']}"
