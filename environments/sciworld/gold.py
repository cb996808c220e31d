"""Makes the table of scenarios: variations and their gold paths, played through to the whole score in time.

    python -m environments.sciworld.gold --each 48

The simulator finds a gold path by playing, as it loads a variation; that takes up to some seconds, and which path it
finds depends on what it played before. So paths are kept, and variations are taken from each task at even distances,
not all of them. What each action of the path leads to is part of the content hash.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from environments.dealing import digest_of
from environments.sciworld.simulator import Simulator

TASKS = (
    "boil",
    "change-the-state-of-matter-of",
    "chemistry-mix",
    "chemistry-mix-paint-secondary-color",
    "chemistry-mix-paint-tertiary-color",
    "find-animal",
    "find-living-thing",
    "find-non-living-thing",
    "find-plant",
    "freeze",
    "identify-life-stages-1",
    "identify-life-stages-2",
    "lifespan-longest-lived",
    "lifespan-longest-lived-then-shortest-lived",
    "lifespan-shortest-lived",
    "measure-melting-point-known-substance",
    "measure-melting-point-unknown-substance",
    "melt",
    "power-component",
    "power-component-renewable-vs-nonrenewable-energy",
    "test-conductivity",
    "test-conductivity-of-unknown-substances",
    "use-thermometer",
)
"""Those that AgentGym plays. It leaves out plants that are grown, genetics and inclined planes: seven of thirty."""

LONGEST = 50
"""Actions of the longest path that is dealt out."""

TABLE = "scenarios.json"


class Variation(NamedTuple):
    """One variation of a task, the hash of its transcript, and the path that solves it."""

    task: str
    number: int
    digest: str
    path: tuple[str, ...]


def known() -> list[Variation]:
    """The variations in the table."""
    data = json.loads(files("environments.sciworld").joinpath(TABLE).read_text(encoding="utf-8"))
    actions = data["actions"]
    return [
        Variation(task, number, digest, tuple(actions[place] for place in path))
        for task, entry in data["tasks"].items()
        for number, digest, path in entry["solved"]
    ]


def verify(simulator: Simulator, task: str, number: int) -> Variation | None:
    """Find a gold path and play it, in a game that was loaded anew. None where it is too long or falls short."""
    simulator.load(task, number, gold=True)
    return replay(simulator, task, number, simulator.gold()[:LONGEST])


def replay(simulator: Simulator, task: str, number: int, path: Sequence[str]) -> Variation | None:
    """Play a path as far as it takes to complete the task. None where it does not, or without the whole score."""
    transcript = [simulator.load(task, number)]
    for turn, action in enumerate(path, 1):
        state = simulator.step(action)
        transcript += [action, state.observation]
        if state.completed:
            return Variation(task, number, digest_of(transcript), tuple(path[:turn])) if state.score >= 1.0 else None
    return None


def spread(count: int, each: int) -> list[int]:
    """So many of the first ``count`` numbers, at even distances."""
    return sorted({place * count // min(each, count) for place in range(min(each, count))})


def write(path: Path, examined: Mapping[str, int], found: Sequence[Variation]) -> None:
    """The table: every action once, then of each task how many variations were examined, and one line for each that is
    dealt out: its number, hash and path.
    """
    actions = {action: place for place, action in enumerate(dict.fromkeys(a for v in found for a in v.path))}
    rows: dict[str, list[str]] = {task: [] for task in examined}
    for one in found:
        rows[one.task].append(json.dumps([one.number, one.digest, [actions[action] for action in one.path]]))
    entries = (
        f'  "{task}": {{"examined": {count}, "solved": [\n   ' + ",\n   ".join(rows[task]) + "\n  ]}"
        for task, count in examined.items()
    )
    listed = f' "actions": {json.dumps(list(actions), indent=2)},\n "tasks": {{\n'
    path.write_text("{\n" + listed + ",\n".join(entries) + "\n }\n}\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Examine and write; what was found is written after each task."""
    parser = argparse.ArgumentParser(prog="python -m environments.sciworld.gold", description=__doc__)
    parser.add_argument("--each", type=int, default=48, help="variations to take from each task")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name(TABLE), help="the table to write")
    chosen = parser.parse_args(arguments)
    simulator = Simulator()
    examined: dict[str, int] = {}
    found: list[Variation] = []
    for task in TASKS:
        numbers = spread(simulator.variations(task), chosen.each)
        solved = [solution for number in numbers if (solution := verify(simulator, task, number))]
        examined[task] = len(numbers)
        found += solved
        sys.stderr.write(f"{task}: {len(solved)} of {len(numbers)}\n")
        write(chosen.out, examined, found)
    simulator.end()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
