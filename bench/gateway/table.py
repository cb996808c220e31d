"""The report for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.gateway.measure import LEAST_THROUGHPUT, MOST_ADDED_MS


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print a row for each arm and kind, and the verdict."""
    table = Table("milliseconds", "calls a second", "direct p50", "p90", "p99", "gateway p50", "p90", "p99", "added")
    for kind, values in (("answer", "ms"), ("streamed answer", "ms"), ("first text", "first_text_ms")):
        found = report["open" if kind == "answer" else "streamed"]
        both = [found[f"{arm}_{values}"] for arm in ("direct", "gateway")]
        cells = [f"{one[key]:.1f}" for one in both for key in ("p50", "p90", "p99")]
        table.add_row(kind, f"{found['per_second']:.0f}", *cells, f"{both[1]['p50'] - both[0]['p50']:.1f}")
    console.print(table)
    for line in _lines(report):
        console.print(line, highlight=False)
    console.print("passed" if report["passed"] else "failed", style="bold green" if report["passed"] else "bold red")


def _lines(report: Mapping[str, Any]) -> list[str]:
    loop, opened, held = report["closed"], report["open"], report["gates"]
    costs = ", ".join(f"{kind} {report[kind]['cpu_ms_a_call']:.2f}" for kind in ("closed", "open", "streamed"))
    return [
        f"closed loop: {loop['direct_per_second']} calls a second direct, {loop['gateway_per_second']} through the "
        f"gateway: {loop['throughput']:.0%} {_said(held['throughput'])} (at least {LEAST_THROUGHPUT:.0%})",
        f"median added at equal arrivals: {opened['added_ms']} ms {_said(held['added_ms'])} "
        f"(at most {MOST_ADDED_MS:g}); pairs {opened['added']}",
        f"CPU ms of the gateway a call: {costs}; all stored {loop['stored_after_seconds']} s after the last answer",
        f"{report['recorded']} of {report['answered']} answered calls recorded {_said(held['recorded'])}",
    ]


def _said(holds: bool) -> str:
    return "held" if holds else "MISSED"
