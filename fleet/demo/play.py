"""The demo as a command: resume or start anew, measure, report."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from db.overview import Facts
from fleet.demo import recipe, report
from fleet.demo.story import Story
from fleet.demo.view import View
from fleet.running import Fleet
from rl.errors import StartError


def play(console: Console, seed: int, json_path: Path | None, *, fresh: bool, quick: bool) -> bool:
    """Run the demo to its end and print what came of it. Whether the chosen version was released."""
    started = time.monotonic()
    size = recipe.QUICK if quick else recipe.Size()
    # Proven on the CPU; RLFLEET_DEVICES chooses otherwise.
    with Fleet(os.environ | {"RLFLEET_DEVICES": os.environ.get("RLFLEET_DEVICES") or "cpu"}) as fleet:
        fleet.start()
        view = View(console, size)
        base = f"{'quick' if quick else 'demo'}-{seed}"
        story = Story(fleet, seed, size, base, _attempt(fleet.home.path / "demo", base, fresh), view)
        _announce(console, story)
        with _timed(story.folder, started), view:
            facts = story.tell()
            outcome = _report(story, facts, started)
        files = report.draw(outcome, story.folder)
        summary = outcome.json()
    report.closing_words(outcome, story.folder, files, fleet.home.path, console)
    if json_path is not None:
        report.write_json(summary, json_path)
    return bool(summary["released"])


def _announce(console: Console, story: Story) -> None:
    going_on = story.logs.exists()
    words = "goes on where it was; --fresh (make demo FRESH=1) starts anew" if going_on else "starts"
    console.print(f"{story.name} {words}; everything lies in {story.fleet.home.path}", highlight=False)


def _attempt(folder: Path, base: str, fresh: bool) -> int:
    """The number of this demo's newest attempt, or of a new one."""
    taken = [1] + [int(path.name.split("-")[2]) for path in folder.glob(f"{base}-*")]
    exists = (folder / base).exists()
    return max(taken) + (1 if fresh and exists else 0)


@contextmanager
def _timed(folder: Path, started: float) -> Iterator[None]:
    """Add the time since ``started`` to the demo's, so that an interrupted demo is charged for both halves."""
    try:
        yield
    finally:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "seconds.json").write_text(json.dumps(_seconds(folder) + time.monotonic() - started))


def _seconds(folder: Path) -> float:
    file = folder / "seconds.json"
    return float(json.loads(file.read_text())) if file.exists() else 0.0


def _report(story: Story, facts: Facts, started: float) -> report.Report:
    chosen = (facts.decision or {}).get("version")
    held_out = recipe.run(story.size, story.seed, story.name).held_out
    base = facts.result(f"{story.name}-v1.0.0", held_out)
    final = facts.result(str(chosen), held_out)
    if base is None or final is None:
        raise StartError(f"the run of {story.name} ended without a held-out comparison; see `rlfleet jobs list`")
    agent = _logging_agent(story)
    now = time.monotonic() - started
    return report.Report(story.seed, facts, base, final, agent, _seconds(story.folder) + now, now, story.course.stages)


def _logging_agent(story: Story) -> tuple[int, int]:
    """The logging agent on the same held-out scenarios."""
    from environments.careless import play as play_carelessly
    from rl.records import ScenarioRef

    task_set = recipe.run(story.size, story.seed, story.name).held_out
    seeds = range(task_set.first_seed, task_set.first_seed + task_set.count)
    refs = [ScenarioRef(environment=task_set.environment, split="held_out", seed=seed) for seed in seeds]
    return sum(play_carelessly(ref, story.seed) for ref in refs), len(refs)
