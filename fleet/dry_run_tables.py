"""What ``rlfleet train --dry-run --json`` prints as one object, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from fleet.dry_run import holds_something
from fleet.terminal import say, wide_console

WINDOWS = ("window", "state", "read from", "trajectories", "kept", "left out", "quarantined", "reason")
KEPT = ("window", "group", "trajectory", "score", "method")
NOT_OPENED = "not opened"
"""How people are told of an hour that only its source knows of."""
NOTHING = "no version would come of it: nothing is left"
LEFT_OUT = ("window", "scenario", "trajectory", "score", "method", "reason")


def show(found: Mapping[str, Any]) -> None:
    """Print it: the windows, what would be learned from, what not and why, the sums, and whether that is enough."""
    _table("windows", WINDOWS, [_window(one) for one in found["windows"]])
    _table("trained on", KEPT, [_kept(one) for one in found["trajectories"]])
    _table("left out", LEFT_OUT, [_left_out(one) for one in found["left_out"]])
    sums = found["sums"]
    counts = f"{sums['trajectories']} trajectories in {sums['groups']} groups, {sums['left_out']} left out"
    say(f"sums: {counts}, about {sums['estimated_tokens']} tokens")
    for reason, count in sums["reasons"].items():
        say(f"  {count} {reason}")
    say(f"objective: {found['objective']}, going on from {found['goes_on_from'] or 'the base model'}")
    say(_verdict(found))
    ready = found["readiness"]
    say(f"the daily training waits for: {'nothing' if ready['ready'] else ready['reason']}")


def _verdict(found: Mapping[str, Any]) -> str:
    if found["refused"]:
        return f"refused: {found['refused']}"
    return "allowed on these trajectories" if holds_something(found) else NOTHING


def _window(one: Mapping[str, Any]) -> list[str]:
    counts = [str(one[name]) for name in ("trajectories", "kept", "left_out")]
    state = NOT_OPENED if one["state"] == "unknown" else one["state"]
    unusable = str(sum(one["quarantined"].values()))
    return [one["window"], state, one["read_from"], *counts, unusable, one["reason"] or ""]


def _kept(one: Mapping[str, Any]) -> list[str]:
    within = one["group"].removeprefix(f"{one['window']} ")
    return [one["window"], within, one["trajectory_id"], _score(one), one["method"] or ""]


def _left_out(one: Mapping[str, Any]) -> list[str]:
    reason = f"{one['reason']} ({one['detail']})" if one["detail"] else one["reason"]
    return [one["window"], one["scenario"], one["trajectory_id"], _score(one), one["method"] or "", reason]


def _score(one: Mapping[str, Any]) -> str:
    return "-" if one["score"] is None else f"{one['score']:g}"


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if not rows:
        return
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "window")
    for row in rows:
        table.add_row(*map(Text, row))
    wide_console().print(table)
