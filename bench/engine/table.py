"""The report for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.engine.measure import ERROR, GATES

PEERS = {"vs_generate": "generate, one at a time", "vs_static": "generate, static batches"}


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print shapes, a row for each peer, and the verdict."""
    table = Table("peer", "tokens per CPU second", "engine", "ratio", "95 % interval", "gate")
    speeds = report["tokens_per_cpu_second"]
    for name, title in PEERS.items():
        low, high = report["intervals"][name]
        held = f">= {GATES[name]:g} {'held' if report['gates'][name] else 'MISSED'}"
        speed = speeds[name.removeprefix("vs_")]
        table.add_row(title, str(speed), str(speeds["engine"]), f"{report[name]:.2f}", f"{low:.2f} to {high:.2f}", held)
    console.print(", ".join(f"{name} {value}" for name, value in report["shapes"].items()), highlight=False)
    console.print(f"{report['pairs']} pairs; lengths are least, median and greatest", highlight=False)
    console.print(table)
    for line in _lines(report):
        console.print(line, highlight=False)
    console.print("passed" if report["passed"] else "failed", style="bold green" if report["passed"] else "bold red")


def _lines(report: Mapping[str, Any]) -> list[str]:
    return [
        f"log-probabilities differ from a plain forward by at most {report['logprob_error']:.1e} (gate {ERROR:g})",
        f"answers that differ between the arms: {report['differing_answers']}",
        f"over HTTP {report['http_tokens_per_second']} tokens per CPU second of the engine's process: "
        f"{report['http_overhead']:+.0%} CPU a token; {report['http_tokens_per_wall_second']} per second of the clock",
    ]
