"""A line on its course: cloned from a log, then practising, watched until it is done. For the demo and pipelines."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import ValidationError

from db import job_views, jobs, lines, versions
from db.overview import Facts, read
from db.session import transaction
from db.tables import Line
from fleet.noted import noted, noting
from fleet.pipeline.place import Place
from fleet.processes import ROOT
from rl.config import LineConfig, RunConfig
from rl.errors import InvalidInput, StartError

LOOK_SECONDS = 0.25


class Watcher(Protocol):
    """Shows people what goes on."""

    def begin(self, stage: str) -> None: ...
    def end(self, stage: str, seconds: float) -> None: ...
    def note(self, words: str) -> None: ...
    def show(self, facts: Facts) -> None: ...


@dataclass
class Course:
    """One line and its run, both called ``name``. ``again`` tells people how to go on after a failure."""

    place: Place
    name: str
    view: Watcher
    again: str
    stages: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage and show it."""
        started = time.monotonic()
        self.view.begin(name)
        yield
        self.stages[name] = time.monotonic() - started
        self.view.end(name, self.stages[name])

    def try_again(self) -> None:
        """Queue again what ended without success before this start, and say so."""
        for job in self.broken():
            with noting("requeue job", job.job_id) as note, transaction() as session:
                opened = jobs.requeue(job.job_id, session)
                if opened:
                    note(session)
            if opened:
                self.view.note(f"tried again: {job}")

    def clone(self, config: LineConfig, hour: str) -> str:
        """Make the line, and have it trained on the hour of its source. Returns its stable version.

        Raises:
            InvalidInput: a line of this name has other settings, or its source has nothing of that hour.
            StartError: a job ended without success, or the version was rejected or waits for a person.
        """
        from tasks.requests import request_together
        from tasks.ring import ring

        self.refuse_another(config)
        with noted("line", self.name, base_model=config.base_model, source=config.source) as session:
            line_id = lines.put(session, self.name, config)
            done = versions.stable_name(session, line_id)
        if done is None:
            with noting("train", self.name, windows=hour) as note:
                request_together([hour], self.name, note=note)
            ring()
            done = self.until(self._has_stable).stable
        return str(done)

    def _has_stable(self, facts: Facts) -> bool:
        first = f"{self.name}-v1.0.0"
        state = None if facts.stable else facts.versions.get(first)
        if state == "rejected":
            raise StartError(f"{first} was rejected, and there is no other to go on from; start anew with --fresh")
        if state == "waiting":
            remedy = f"with a fleet that runs (`rlfleet up`), `rlfleet approve {first}`"
            raise StartError(f"{first} waits for a person's approval: {remedy}, and then start this again")
        return facts.stable is not None

    def refuse_another(self, config: LineConfig) -> None:
        """See that a line of this name, where there is one, is the one that ``config`` makes.

        Raises:
            InvalidInput: it has other settings: it is somebody else's, and its agents are answered by it.
        """
        with transaction() as session:
            there = lines.sources(session)
            same = self.name not in there or _has(lines.named(session, self.name), config)
        if not same:
            raise another_line(self.name)

    def practise(self, config: RunConfig) -> Facts:
        """Start the run from the line's first version, and wait until it has ended or waits for a person."""
        from tasks.ring import advance

        with noted("start run", config.name, line=self.name) as session:
            line = lines.named(session, self.name)
            first = versions.named(session, f"{self.name}-v1.0.0")[0]
            lines.start_run(session, line.id, config, first.id)
        advance(self.name)
        return self.until(lambda facts: facts.run_state != "running")

    def until(self, done: Callable[[Facts], bool]) -> Facts:
        """Show the facts until ``done``, and return them.

        Raises:
            StartError: a job failed, is dead or was cancelled; with its own words.
        """
        while True:
            facts = read(self.name)
            self.view.show(facts)
            if done(facts):
                return facts
            if broken := self.broken():
                raise StartError(f"{broken[0]}; the logs are in {self.place.logs}; {self.again}")
            self.place.poll()
            time.sleep(LOOK_SECONDS)

    def broken(self) -> list[job_views.Summary]:
        """The line's jobs that ended without success and that something waits for.

        Nothing waits for those that somebody put aside after that, and for those of a window that is skipped.
        """
        ended = [job for state in ("failed", "dead", "cancelled") for job in job_views.listing(state, line=self.name)]
        skipped = {name for name, state in read(self.name).windows.items() if state == "skipped"} if ended else set()
        return [job for job in ended if "put aside: " not in (job.error or "")[:20] and not _windows(job) & skipped]

    def python(self, module: str, *words: str, on_line: Callable[[str], None] = lambda _: None) -> None:
        """Run one of our modules to its end, with the fleet's environment; ``on_line`` gets what it prints.

        Raises:
            StartError: it ended without success; with the end of what it wrote.
        """
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *words],
                cwd=ROOT,
                env=dict(self.place.environ),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                umask=0o077,
            )
            with process:
                try:
                    for line in process.stdout or ():
                        on_line(line)
                except BaseException:
                    process.kill()
                    raise
            errors.seek(0)
            said = errors.read()[-2000:]
        if process.returncode != 0:
            raise StartError(f"python -m {module} ended with {process.returncode}:\n{said}")


def another_line(name: str) -> InvalidInput:
    """The error where a line of that name is there for something else."""
    remedy = "a line of this name is there with other settings; choose another name, or start anew with --fresh"
    return InvalidInput("name", name, remedy)


def _has(line: Line, config: LineConfig) -> bool:
    """Whether the line has this config; one that is no longer understood has another."""
    try:
        return lines.config_of(line) == config
    except ValidationError:
        return False


def _windows(job: job_views.Summary) -> set[str]:
    return {*job.inputs.get("windows", []), *([job.inputs["window"]] if "window" in job.inputs else [])}
