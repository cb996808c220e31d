"""``rlfleet status``: what a person or a probe is told of the whole fleet."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from fleet.terminal import BASE_ANSWERS, say, wide_console


def read() -> dict[str, Any]:
    """The state by the rows; see ``db.fleet_state``."""
    from db import fleet_state

    return fleet_state.read()


def show(state: dict[str, Any]) -> None:
    """Print it for people."""
    table = Table("line", "windows", "versions", "stable", "share", "canary", "share")
    for one in state["lines"]:
        windows = ", ".join(f"{count} {name}" for name, count in one["windows"].items())
        row = [one["line"], windows, str(one["versions"]), one["stable"] or "-", f"{one['share']} %"]
        table.add_row(*row, one["canary"] or "-", f"{one['canary_share']} %" if one["canary"] else "-")
    wide_console().print(table)
    for one in state["lines"]:
        if one["killed"]:
            back = f"`rlfleet kill --off --line {one['line']} --reason TEXT`"
            say(f"killed: line {one['line']}: {BASE_ANSWERS}; {back}")
        if one["pinned"]:
            back = f"`rlfleet pin --clear --line {one['line']} --reason TEXT`"
            say(f"pinned: line {one['line']} to {one['pinned']}; {back}")
    for one in state["candidates"]:
        for words in one["waits"]:
            say(f"candidate: {one['version'] or 'line ' + one['line']}: {words}")
    say("jobs: " + ", ".join(f"{count} {name}" for name, count in state["jobs"].items()))
    for one in state["paused"]:
        say(f"paused: {one['kind']} since {one['since']} ({one['reason']}); `rlfleet jobs resume {one['kind']}`")
    for one in state["workers"]:
        where = f" on {one['device']}" if one["device"] else ""
        tasks = f"{one['concurrency']} at once from {', '.join(one['queues'])}"
        say(f"worker: {one['name']}{where}, {tasks}, seen {one['silent_seconds']:.0f} s ago")
    for one in state["rejections"]:
        say(f"rejected: {one['count']} {one['reason']} {one['subject']}, last {one['last_at']}: {one['example']}")
    for one in state["mirrors"]:
        ago = one["error_seconds"]
        words = one["error"] if ago is None else f"the last try {ago:.0f} s ago: {one['error']}"
        say(f"mirror {one['target']} is behind: {one['waiting']} copies wait, {words}")
    for one in state["alerts"]:
        say(f"alert {one['alert_id']} not sent: {one['name']} {one['subject']}, {one['created_at']}")
