"""The process that has wandb: it records one run on this machine, or sends a recording. Neither runs beside the other.

Nothing is recorded but what the order says: no output, code, packages, git, host or user.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from backends.wandb_child import die_with
from rl.checkpoint_files import is_hashed


def record(order: dict[str, Any], place: Path) -> None:
    """Record the whole run below ``place``; what is recorded may be sent again and again.

    The files of a model stay where they are if they are sent at once; a recording that waits gets copies of its own.
    Ends the process where a model's files are gone.
    """
    import wandb

    models = {one["name"]: _files(one["folder"]) for one in order["models"]}
    if lacking := [name for name, files in models.items() if not files]:
        sys.exit(f"the files of {', '.join(lacking)} are no more on this host")
    run = wandb.init(
        id=order["key"],
        name=order["name"],
        group=order["group"],
        tags=order["tags"],
        config=order["params"],
        project=order["project"],
        entity=order["entity"] or None,
        settings=wandb.Settings(
            mode="offline",
            root_dir=str(place),
            console="off",
            silent=True,
            host="",
            username="",
            email="",
            program="",
            disable_git=True,
            disable_code=True,
            save_code=False,
            disable_job_creation=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_disable_stats=True,
            x_save_requirements=False,
        ),
    )
    for one in order["steps"]:
        run.log({**one["metrics"], "_timestamp": one["at"]}, step=one["step"])
    run.summary.update(order["summary"])
    for one in order["models"]:
        about = {name: one[name] for name in ("sha256", "kind", "step")}
        artifact = wandb.Artifact(one["name"], type="model", metadata={"version": order["name"], **about})
        for path in models[one["name"]]:
            artifact.add_file(str(path), name=path.name, policy="immutable" if order["url"] else "mutable")
        run.log_artifact(artifact, aliases=one["aliases"])
    run.finish(exit_code=int(order["failed"]))


def _files(folder: str) -> list[Path]:
    return sorted(path for path in Path(folder).glob("*") if is_hashed(path.name))


def sync(place: Path) -> None:
    """Send the recording below ``place``, as ``wandb sync`` does; ends the process with its exit status."""
    from wandb.cli.cli import cli

    sys.argv[:] = ["wandb"]
    cli(["sync", "--include-synced", *map(str, place.glob("wandb/offline-run-*"))])


if __name__ == "__main__":
    what, path, place, parent = sys.argv[1:]
    die_with(int(parent))
    if what == "record":
        record(json.loads(Path(path).read_text()), Path(place))
    else:
        sync(Path(place))
