"""Demos one after the other on one fleet of their own, with the probe beside them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from bench.loop.probe import Probe
from bench.loop.rows import Loop, read
from fleet.demo import recipe
from fleet.demo.story import Story
from fleet.demo.view import View
from fleet.ports import free_port
from fleet.running import Fleet
from rl.errors import RlfleetError

SETTLE_SECONDS = 60.0
"""How long a version may take to answer after its run has ended."""


def play(seeds: Sequence[int], size: recipe.Size, console: Console) -> tuple[list[Loop], list[str]]:
    """The loops as their rows say, and why a run did not come to its end; after one that did not, none is begun."""
    loops: list[Loop] = []
    with _fleet(console) as fleet, View(console, size) as view:
        key = fleet.plan.environ["RLFLEET_GATEWAY_KEY"]
        with Probe(fleet.plan.gateway_url, key) as probe:
            for seed in seeds:
                view.note(f"seed {seed}")
                story = Story(fleet, seed, size, f"loop-{seed}", 1, view)
                try:
                    story.tell()
                    fleet.wait(probe.settled, "an answer of every version", SETTLE_SECONDS)
                except RlfleetError as error:
                    view.note(f"  {error}")
                    _keep_logs(fleet, view)
                    return loops, [f"seed {seed}: {error}"]
                loops.append(read(story.name))
    return loops, []


@contextmanager
def _fleet(console: Console) -> Iterator[Fleet]:
    """Servers and processes in a folder that is removed at the end, untouched by what this shell points at."""
    folder = Path(tempfile.mkdtemp(prefix="rlfleet-loop-"))
    folder.chmod(0o711)  # the servers' account must be able to enter
    foreign = ("RLFLEET_", "DATABASE_URL", "REDIS_URL", "RL_", "USE_RL_MODEL", "UPSTREAM_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    environ = kept | {
        "RLFLEET_HOME": str(folder / "home"),
        "RLFLEET_GATEWAY_PORT": str(free_port()),
        "RLFLEET_FLOWER_PORT": str(free_port()),
        "RLFLEET_ADMIN_PORT": str(free_port()),
        "RLFLEET_DEVICES": os.environ.get("RLFLEET_DEVICES") or "cpu",
    }
    for name in os.environ.keys() - environ.keys():
        del os.environ[name]
    try:
        with Fleet(environ) as fleet:
            console.print(f"everything lies in {fleet.home.path}", highlight=False)
            fleet.start()
            yield fleet
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _keep_logs(fleet: Fleet, view: View) -> None:
    """The folder of everything is removed; what is needed to understand a failure is kept beside it."""
    home = fleet.home.path
    kept = home.parent.with_name(f"{home.parent.name}-logs")
    shutil.copytree(fleet.home.logs, kept, dirs_exist_ok=True)
    view.note(f"logs are in {kept}")
