"""``rlfleet gc``: what retention would remove now, and with ``--apply`` its removal without waiting for the night."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from fleet.noted import noted, noted_where_it_breaks
from fleet.terminal import AsJson, say


def gc(
    apply: Annotated[bool, typer.Option("--apply", help="remove it")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what retention would remove: rows, trajectories, checkpoints, folders. Nothing goes without --apply.

    Exit code 1 when a store did not let go of everything; the next pass tries that again.
    """
    from fleet import backup

    with backup.database(os.environ) as root:
        os.environ["RLFLEET_ARTIFACTS"] = str(root)
        found, failed = _found(root), list[str]()
        removed = _remove(root, failed) if apply else None
    if as_json:
        words = {"artifacts": str(root), "would_remove": found, "removed": removed, "failed": failed}
        typer.echo(json.dumps({"schema": 1} | words))
    elif removed is None:
        _show(found, root)
    else:
        say("removed " + (", ".join(f"{count} {name}" for name, count in removed.items() if count) or "nothing"))
        for one in failed:
            say(one)
    if failed:
        raise typer.Exit(1)


def _found(root: Path) -> dict[str, Any]:
    from db import prunable
    from db.session import transaction
    from tasks import storing
    from tasks.prune import would_remove

    with transaction() as session:
        rows, windows, steps = prunable.old_rows(session), prunable.windows(session), prunable.steps(session)
    folders = would_remove(root)
    return {
        "rows": rows,
        "windows": [{"line": line, "window": name, "trajectories": count} for line, name, count in windows],
        "checkpoints": [{"version": one.version, "steps": list(one.steps)} for one in steps],
        "store": [{"checkpoint": one.uri, "sha256": one.sha256} for one in storing.would_remove()],
        "folders": [{"path": str(path), "bytes": _size(path)} for path in folders],
    }


def _remove(root: Path, failed: list[str]) -> dict[str, int]:
    """One whole pass, as the task does it, without its limit of time; how many of what went.

    What the store does not let go is added to ``failed``.
    """
    from db import prune as rows
    from tasks import storing
    from tasks.prune import give_up_checkpoints, remove_folders, sweep_refused

    with noted("gc", root):  # before anything goes
        pass
    with noted_where_it_breaks("gc", root):
        removed = dict(rows.old_rows())
        trajectories, _ = rows.old_trajectories(math.inf)
        removed |= trajectories
        removed["refused trajectories"] = sweep_refused()[0]
        removed["checkpoints"] = give_up_checkpoints(math.inf)[0]
        removed["folders"] = remove_folders(root, math.inf)[0]
        removed["checkpoints from the store"] = storing.sweep(math.inf, failed.append)[0]
        return removed


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; of what vanishes meanwhile none."""
    total = 0
    for one in (path, *path.rglob("*")) if path.is_dir() else (path,):
        try:
            total += one.lstat().st_size if not one.is_dir() else 0
        except FileNotFoundError:
            continue
    return total


def _show(found: dict[str, Any], root: Path) -> None:
    said = [f"{count} rows of {table}" for table, count in found["rows"].items() if count]
    for one in found["windows"]:
        said.append(f"{one['trajectories']} trajectories of window {one['window']} of line {one['line']}")
    for one in found["checkpoints"]:
        said.append(f"checkpoints of {one['version']}: steps {', '.join(map(str, one['steps']))}")
    for one in found["store"]:
        said.append(f"checkpoint {one['sha256'][:12]} from the store ({one['checkpoint']})")
    for one in found["folders"]:
        said.append(f"{one['path']} ({one['bytes'] / 2**20:.1f} MiB)")
    for words in said:
        say(words)
    say(f"`rlfleet gc --apply` removes it; artifacts lie in {root}" if said else "nothing is to be removed")
