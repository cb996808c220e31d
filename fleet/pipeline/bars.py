"""Progress on stderr: a bar for what is being done, with its count, rate and the time that is left."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

from db.overview import Facts, Judged
from fleet.pipeline.rate import Done, Rate, rate

PLAIN_SECONDS = 10.0
"""Where nothing can move (a log file, a pipe), a line is printed this often."""


class Bar(NamedTuple):
    """One thing that is counted; ``unit`` is what, ``note`` is said behind it. No ``total``: nobody counts it."""

    what: str
    done: int
    total: int | None
    unit: str
    note: str = ""


class Bars:
    """What a person sees of a pipeline: a line for each stage that is done, and bars that move for the one at work."""

    def __init__(self, console: Console, rounds: int) -> None:
        self._console, self._rounds = console, rounds
        columns = (TextColumn("  {task.description}"), BarColumn(12), Done(_whole()), Rate(_whole()))
        left, note = TimeRemainingColumn(table_column=_whole()), TextColumn("{task.fields[note]}")
        self._progress = Progress(*columns, left, note, console=console)
        self._tasks: dict[tuple[str, str], TaskID] = {}
        self._stage, self._printed = "", 0.0
        self._began: dict[str, tuple[float, int]] = {}

    def __enter__(self) -> Bars:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._put([])
        if self._console.is_terminal:
            self._progress.stop()

    def begin(self, stage: str) -> None:
        """A stage begins."""
        self._stage = stage
        self._put([self._idle])
        if not self._console.is_terminal:
            self.note(f"{stage} ...")

    def end(self, stage: str, seconds: float) -> None:
        """A stage is done."""
        self._put([])
        self._console.print(f"[green]✓[/] {stage} [dim]{seconds:.0f} s[/]", highlight=False)

    def kept(self, stage: str) -> None:
        """A stage was done by an earlier start."""
        self._put([])
        self._console.print(f"[green]✓[/] {stage} [dim]done before[/]", highlight=False)

    @property
    def _idle(self) -> Bar:
        """What moves while nothing is counted."""
        return Bar(self._stage, 0, None, "")

    def note(self, words: str) -> None:
        """Something to know that happens once."""
        self._console.print(f"  {words}", highlight=False, markup=False, soft_wrap=True)

    def count(self, done: int, total: int, unit: str = "episodes") -> None:
        """So much of the stage is done."""
        self._put([Bar(self._stage, done, total, unit)])

    def show(self, facts: Facts) -> None:
        """What the fleet is doing now."""
        self._put(bars(facts, self._stage, self._rounds) or [self._idle])

    def _put(self, shown: list[Bar]) -> None:
        if not self._console.is_terminal:
            self._print(shown)
            return
        known = {(bar.what, bar.unit) for bar in shown}
        changed = known != self._tasks.keys()
        for gone in self._tasks.keys() - known:
            self._progress.remove_task(self._tasks.pop(gone))
        for bar in shown:
            key = bar.what, bar.unit
            if key not in self._tasks:
                begun: dict[str, Any] = {"total": bar.total, "completed": bar.done, "unit": bar.unit, "note": bar.note}
                self._tasks[key] = self._progress.add_task(bar.what, **begun)
            self._progress.update(self._tasks[key], completed=bar.done, total=bar.total, note=bar.note)
        if changed:
            self._progress.refresh()

    def _print(self, shown: list[Bar]) -> None:
        """The bars as words, now and then."""
        now, shown = time.monotonic(), [bar for bar in shown if bar.total is not None]
        self._began = {bar.what: self._began.get(bar.what, (now, bar.done)) for bar in shown}
        if shown and now - self._printed >= PLAIN_SECONDS:
            self._printed = now
            self.note(" · ".join(self._words(bar, now) for bar in shown))

    def _words(self, bar: Bar, now: float) -> str:
        since, before = self._began[bar.what]
        speed = (bar.done - before) / (now - since) if now > since and bar.done > before else None
        left = f"about {((bar.total or 0) - bar.done) / speed:.0f} s left" if speed else ""
        return ", ".join(filter(None, [f"{bar.what} {bar.done}/{bar.total}", rate(speed, bar.unit), left, bar.note]))


def _whole() -> Column:
    """A column that is never broken: of a narrow terminal the bar and the note give way."""
    return Column(no_wrap=True)


def bars(facts: Facts, stage: str, rounds: int) -> list[Bar]:
    """The rounds of RL, where they have begun, and what running jobs count; those on one thing are one bar."""
    played = [name for name in facts.rounds if name in facts.rewards]
    shown = []
    if played:
        best = max((one for one in facts.judged if one.split == "validation" and one.n), key=_rate, default=None)
        notes = [f"solved {facts.rewards[played[-1]]:.0%}", f"best {best.version} {best.k}/{best.n}" if best else ""]
        trained = sum(facts.windows[name] in ("trained", "skipped") for name in played)
        shown.append(Bar(stage, trained, rounds, "rounds", ", ".join(filter(None, notes))))
    counted: dict[tuple[str, str], Bar] = {}
    for job in facts.active:
        progress = job.progress or {}
        done, total = progress.get("step", progress.get("done")), progress.get("total")
        if isinstance(done, int) and isinstance(total, int):
            key = what, unit = _what(job.kind, progress), _unit(job.kind)
            before = counted.get(key, Bar(what, 0, 0, unit))
            counted[key] = Bar(what, before.done + done, (before.total or 0) + total, unit, _metrics(progress))
    return [*shown, *counted.values()]


def _what(kind: str, progress: dict[str, Any]) -> str:
    return " ".join(str(part) for part in (kind, progress.get("window") or progress.get("version")) if part)


def _unit(kind: str) -> str:
    return "steps" if kind == "train" else "episodes"


def _metrics(progress: dict[str, Any]) -> str:
    known = progress.get("metrics")
    found = known if isinstance(known, dict) else {}
    return ", ".join(f"{name} {found[name]:.3g}" for name in ("loss",) if isinstance(found.get(name), float))


def _rate(judged: Judged) -> float:
    return judged.k / judged.n
