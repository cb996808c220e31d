"""What a person sees while the demo runs: one line for what is done, one that moves for what is being done."""

from __future__ import annotations

import time

from rich.console import Console
from rich.live import Live
from rich.text import Text

from db.overview import Facts
from fleet.demo.recipe import Size

PLAIN_SECONDS = 10.0
"""Where nothing can move (a log file, a pipe), a line is printed this often."""


class View:
    """Progress on ``console``: stage, window, episodes a second, reward, and the time that is left."""

    def __init__(self, console: Console, size: Size) -> None:
        self._console, self._size = console, size
        self._live = Live(Text(""), console=console, auto_refresh=False, transient=True)
        self._stage, self._started = "", time.monotonic()
        self._printed = 0.0
        self._rounds_started: float | None = None
        self._rounds_at_start = 0

    def __enter__(self) -> View:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def begin(self, stage: str) -> None:
        """A stage begins."""
        self._stage, self._started = stage, time.monotonic()
        self._say(Text(f"  {stage} ..."))

    def end(self, stage: str, seconds: float) -> None:
        """A stage is done."""
        self._console.print(f"[green]✓[/] {stage} [dim]{seconds:.0f} s[/]", highlight=False)

    def note(self, words: str) -> None:
        """Something to know that happens once."""
        self._console.print(f"  {words}", highlight=False, markup=False, soft_wrap=True)

    def show(self, facts: Facts) -> None:
        """What the fleet is doing now."""
        elapsed = time.monotonic() - self._started
        parts = [f"  {self._stage} {elapsed:4.0f} s", *(_doing(one.progress or {}, one.kind) for one in facts.active)]
        rounds = [name for name in facts.rewards if name.startswith("run/")]
        if rounds:
            parts.append(f"round {len(rounds)}/{self._size.rounds}, solved {facts.rewards[rounds[-1]]:.0%}")
            parts.append(self._left(len(rounds)))
        best = max((one for one in facts.judged if one.split == "validation" and one.n), key=_rate, default=None)
        if best is not None:
            parts.append(f"best {best.version} {best.k}/{best.n}")
        self._say(Text(" · ".join(part for part in parts if part)))

    def _left(self, rounds: int) -> str:
        now = time.monotonic()
        if self._rounds_started is None:
            self._rounds_started, self._rounds_at_start = now, rounds
        played = rounds - self._rounds_at_start
        if played < 1:
            return ""
        return f"about {(now - self._rounds_started) / played * (self._size.rounds - rounds):.0f} s left"

    def _say(self, line: Text) -> None:
        if self._console.is_terminal:
            self._live.update(line, refresh=True)
        elif time.monotonic() - self._printed >= PLAIN_SECONDS:
            self._printed = time.monotonic()
            self._console.print(line, soft_wrap=True)


def _doing(progress: dict[str, object], kind: str) -> str:
    match kind:
        case "train" if progress:
            metrics = progress.get("metrics")
            known = metrics if isinstance(metrics, dict) else {}
            shown = [f"{name} {known[name]:.3g}" for name in ("loss", "tokens_per_second") if name in known]
            return f"train step {progress['step']}/{progress['total']} {' '.join(shown)}".rstrip()
        case "collect" | "evaluate" if progress:
            rate = f", {progress['per_second']} episodes/s" if "per_second" in progress else ""
            total = f"/{progress['total']}" if "total" in progress else ""
            what = progress.get("window") or progress.get("version")
            return f"{kind} {what} {progress['done']}{total}{rate}"
    return kind


def _rate(judged: object) -> float:
    return judged.k / judged.n  # type: ignore[attr-defined, no-any-return]
