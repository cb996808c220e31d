"""What came of it: a table, a figure, and one JSON object for machines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from db.overview import Facts, Judged, scenario_ids
from rl.intervals import beta_interval

SCHEMA = 1


@dataclass(frozen=True)
class Report:
    """The demo's outcome. ``base`` is v1.0.0 and ``final`` the chosen version, on the same held-out scenarios.

    ``seconds`` is what this start of the demo took; ``compute_seconds`` adds what interrupted ones took before it.
    """

    seed: int
    facts: Facts
    base: Judged
    final: Judged
    logging_agent: tuple[int, int]
    compute_seconds: float
    seconds: float
    stages: Mapping[str, float]

    def json(self) -> dict[str, Any]:
        """One object; ``released`` only if the chosen version has the whole traffic and the gateway says so."""
        facts = self.facts
        return {
            "schema": SCHEMA,
            "seed": self.seed,
            "base": _count(self.base.k, self.base.n),
            "final": _count(self.final.k, self.final.n),
            "logging_agent": _count(*self.logging_agent),
            "version": self.final.version,
            "released": (facts.stable, facts.share, facts.gateway_version)
            == (self.final.version, 100, self.final.version),
            "gateway_version": facts.gateway_version,
            "windows": len(facts.windows),
            "trajectories": facts.trajectories,
            "jobs": {state: facts.jobs.get(state, 0) for state in ("succeeded", "failed", "dead")},
            "compute_seconds": round(self.compute_seconds, 1),
            "seconds": round(self.seconds, 1),
            "stages": {name: round(seconds, 1) for name, seconds in self.stages.items()},
            "ids": scenario_ids(facts.line),
        }

    def table(self) -> Table:
        """The three agents on the same held-out scenarios."""
        table = Table(title=f"solved, of {self.base.n} scenarios that nobody trained or chose on")
        for column, justify in (("agent", "left"), ("solved", "right"), ("share", "right"), ("80 % interval", "right")):
            table.add_column(column, justify="right" if justify == "right" else "left")
        rows = [
            ("the logging agent", *self.logging_agent),
            (f"{self.base.version} (its logs, cloned)", self.base.k, self.base.n),
            (f"{self.final.version} (after practice)", self.final.k, self.final.n),
        ]
        for name, k, n in rows:
            low, high = beta_interval(k, n)
            table.add_row(name, f"{k}/{n}", f"{k / n:.1%}", f"{low:.1%} to {high:.1%}")
        return table


def _count(k: int, n: int) -> dict[str, Any]:
    low, high = beta_interval(k, n)
    return {"k": k, "n": n, "low": round(low, 4), "high": round(high, 4)}


def write_json(summary: Mapping[str, Any], path: Path) -> None:
    """Write the outcome, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.tmp")
    scratch.write_text(json.dumps(summary, indent=1) + "\n")
    scratch.replace(path)


def draw(report: Report, folder: Path) -> list[Path]:
    """Success by version with 80 % bands, as PNG and SVG. Returns the files."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.add_subplot()
    validated = [one for one in report.facts.judged if one.split == "validation"]
    _band(axes, validated, "C0", "validation, used to choose")
    held_out = [report.base, report.final] if report.final != report.base else [report.base]
    for number, one in enumerate(held_out):
        low, high = beta_interval(one.k, one.n)
        rate = one.k / one.n
        label = "held out, reported" if number == 0 else None
        bars = [[rate - low], [high - rate]]
        axes.errorbar([one.number], [rate], yerr=bars, fmt="o", color="C3", capsize=4, label=label, zorder=3)
    k, n = report.logging_agent
    low, high = beta_interval(k, n)
    axes.axhspan(low, high, color="0.85", zorder=0)
    axes.axhline(k / n, color="0.5", linestyle="--", linewidth=1, label="the logging agent, held out")
    axes.set(xlabel="version: v1.0.n", ylabel="scenarios solved", ylim=(0, 1))
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(f"An agent that practises on its own trajectories (seed {report.seed}, 80 % intervals)", fontsize=11)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=9)
    files = [folder / "success.png", folder / "success.svg"]
    for file in files:
        figure.savefig(file, dpi=144)
    return files


def _band(axes: Any, judged: list[Judged], color: str, label: str) -> None:
    numbers = [one.number for one in judged]
    intervals = [beta_interval(one.k, one.n) for one in judged]
    axes.fill_between(numbers, [low for low, _ in intervals], [high for _, high in intervals], color=color, alpha=0.2)
    axes.plot(numbers, [one.k / one.n for one in judged], "o-", color=color, markersize=4, label=label)


def closing_words(report: Report, folder: Path, files: list[Path], home: Path, console: Console) -> None:
    """The table, where everything is, and what to try next."""
    facts = report.facts
    console.print(report.table())
    decision = facts.decision or {}
    console.print(f"{decision.get('reason', '')}; the gateway answers with {facts.gateway_version}", highlight=False)
    kept = f"{facts.trajectories} trajectories in {len(facts.windows)} windows"
    console.print(f"{kept}, {sum(facts.quarantined.values())} rows quarantined", highlight=False)
    console.print(
        f"\nfigure    {files[0]}\nlogs      {home / 'logs'}\nartifacts {home / 'artifacts'}\ndemo      {folder}"
    )
    console.print("\nNext: `rlfleet up` starts the fleet again and keeps it running; then, in another terminal,")
    for command in (
        "rlfleet status",
        f"rlfleet train {next(iter(facts.windows))} --line {facts.line}",
        "rlfleet jobs list",
    ):
        console.print(f"  .venv/bin/{command}", highlight=False)
