"""The matrix for people: a table on the terminal, and the same as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

HEAD = ("", "fault", "ours: effects of jobs", "back after", "invariants", "raw: effects of tasks", "back after")
INVARIANTS = """\
| | invariant |
|---|---|
| I1 | every accepted job ends |
| I2 | every succeeded job has its effect exactly once, written under the job's fence |
| I3 | a job's fence only grows |
| I4 | no attempt beyond the most that are allowed |
| I5 | no two trainers hold one device |
| I6 | a job's history replays to its row |
| I7 | a lost holder is replaced within lease + tick + 15 s |
"""


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print the table, and below it what failed."""
    table = Table(*HEAD, title=f"seed {report['seed']}, lease {report['lease_seconds']:g} s", show_lines=False)
    for row in report["rows"]:
        table.add_row(*cells(row), style=None if row["ours"]["passed"] else "bold red")
    console.print(table)
    for row in report["rows"]:
        if not row["ours"]["passed"]:
            console.print(f"row {row['row']}: {row['reason']}", style="red", markup=False)
    console.print("passed" if report["passed"] else "failed", style="bold green" if report["passed"] else "bold red")


def cells(row: Mapping[str, Any]) -> Sequence[str]:
    """One row of the table, a text a column."""
    ours, raw = row["ours"], row["raw"]
    broken = [name for name, holds in ours["invariants"].items() if not holds]
    verdict = "hold" if ours["passed"] else (", ".join(broken) + " broken" if broken else "failed")
    theirs = [f"{raw['effects']} of {raw['jobs']}", seconds(raw["recovery_seconds"])] if raw else ["", ""]
    return [
        str(row["row"]),
        row["fault"],
        f"{ours['effects']} of {ours['jobs']}",
        seconds(ours["recovery_seconds"]),
        verdict,
        *theirs,
    ]


def seconds(value: float | None) -> str:
    """Seconds with one digit; nothing for None."""
    return "" if value is None else f"{value:.1f} s"


def markdown(report: Mapping[str, Any]) -> str:
    """The report as a page."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    lines += ["| " + " | ".join(cells(row)) + " |" for row in report["rows"]]
    notes = [line for row in report["rows"] for line in remarks(row)]
    how = f"`python -m bench.faults --seed {report['seed']}`: lease {report['lease_seconds']:g} s, "
    how += f"reconciler every {report['tick_seconds']:g} s."
    return "\n".join(["# Faults", "", how, "", INVARIANTS, *lines, "", *notes]).rstrip() + "\n"


def remarks(row: Mapping[str, Any]) -> list[str]:
    """What a row and its counterpart noted, as list items."""
    found = []
    for who in ("ours", "raw"):
        notes = (row[who] or {}).get("notes") or {}
        if notes:
            said = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in notes.items())
            found.append(f"- Row {row['row']}, {who}: {said}.")
    return found
