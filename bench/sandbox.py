"""``python -m bench.sandbox``: what holding a program costs, in units of ``python -I -S`` with the same program.

The program reads a number and prints its square. All arms take turns, one run of each a round, with the interpreter
that runs inside. The ratio that is bounded is that of CPU times, of this process and of all that it started and waited
for: on a machine that others use too, the four processes of a sandbox wait for the processor more often than one does,
and wall times say as much about the others. Their medians, least values and ratios are shown beside it.

The table goes to stderr, the report to the file of ``--json``, whose path is all that stdout gets. The exit status is 0
if and only if one program at the level in use takes at most 2.5 times as much.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

from rich.console import Console
from rich.table import Table

from environments.sandbox import probe
from environments.sandbox.commands import Site
from environments.sandbox.records import Level
from environments.sandbox.running import run_at, run_each_at

SCHEMA = 1
MOST = 2.5
PROGRAM = "print(int(input()) ** 2)"
INPUTS = [str(number) for number in range(10)]
BARE = "python -I -S"
ROUNDS, QUICK_ROUNDS = 100, 20


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    args = _arguments(argv)
    console = Console(stderr=True, soft_wrap=True)
    sites = [found for level in Level if isinstance(found := probe.at(level), Site)]
    used = probe.site()
    rows = measured(arms(sites, used), QUICK_ROUNDS if args.quick else ROUNDS)
    ratio = rows[str(used.level)]["ratio"]
    report: dict[str, Any] = {"schema": SCHEMA, "quick": args.quick, "machine": _machine(used)}
    report |= {"level": str(used.level), "missing": _missing(), "arms": rows, "ratio": ratio, "most": MOST}
    report["passed"] = ratio <= MOST
    show(report, console)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")
        sys.stdout.write(f"{args.json}\n")
    return 0 if report["passed"] else 1


def arms(sites: Sequence[Site], used: Site) -> dict[str, Callable[[], list[str]]]:
    """Name to what is timed; each says what the program printed."""

    def bare() -> list[str]:
        words = [used.interpreter.path, "-I", "-S", "-c", PROGRAM]
        return [subprocess.run(words, input=INPUTS[3], capture_output=True, text=True, check=True).stdout]

    def one(site: Site) -> list[str]:
        return [run_at(site, PROGRAM, INPUTS[3]).stdout]

    made: dict[str, Callable[[], list[str]]] = {BARE: bare}
    made |= {str(site.level): lambda site=site: one(site) for site in sites}  # type: ignore[misc]
    made["10 in one launch"] = lambda: [ran.stdout for ran in run_each_at(used, PROGRAM, INPUTS)]
    made["10 in ten launches"] = lambda: [run_at(used, PROGRAM, text).stdout for text in INPUTS]
    return made


def measured(named: dict[str, Callable[[], list[str]]], rounds: int) -> dict[str, dict[str, float]]:
    """Wall and CPU milliseconds of each arm, and their ratios to the first."""
    wall: dict[str, list[float]] = {name: [] for name in named}
    cpu: dict[str, list[float]] = {name: [] for name in named}
    for number in range(rounds + 1):
        for name, act in named.items():
            before, began = _cpu(), time.perf_counter()
            printed = act()
            seconds, used = time.perf_counter() - began, _cpu() - before
            assert printed == (["9\n"] if len(printed) == 1 else [f"{int(text) ** 2}\n" for text in INPUTS])
            if number:
                wall[name].append(seconds)
                cpu[name].append(used)
    rows = {name: _row(wall[name], cpu[name]) for name in named}
    for row in rows.values():
        for ratio, of in (("ratio", "cpu_ms"), ("median_ratio", "median_ms"), ("least_ratio", "least_ms")):
            row[ratio] = round(row[of] / rows[BARE][of], 2)
    return rows


def _row(wall: list[float], cpu: list[float]) -> dict[str, float]:
    return {"least_ms": 1000 * min(wall), "median_ms": 1000 * median(wall), "cpu_ms": 1000 * fmean(cpu)}


def _cpu() -> float:
    """CPU seconds of this process and of all that it has started and waited for."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)


def _missing() -> dict[str, str]:
    return {str(level): found for level in Level if isinstance(found := probe.at(level), str)}


def _machine(used: Site) -> dict[str, Any]:
    return {
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "interpreter": used.interpreter.path,
    }


def show(report: dict[str, Any], console: Console) -> None:
    """Print a row for each arm, and the verdict."""
    table = Table("arm", "CPU", "ms", "median", "ms", "least", "ms")
    for name, row in report["arms"].items():
        pairs = (("ratio", "cpu_ms"), ("median_ratio", "median_ms"), ("least_ratio", "least_ms"))
        table.add_row(name, *(cell for of, ms in pairs for cell in (f"{row[of]:.2f}", f"{row[ms]:.1f}")))
    console.print(table)
    for level, why in report["missing"].items():
        console.print(f"{level} is not measured: {why}", highlight=False)
    verdict = "passed" if report["passed"] else "failed"
    taken = f"{report['ratio']:.2f} times the CPU of {BARE} (at most {MOST})"
    console.print(
        f"{verdict}: one program at {report['level']} takes {taken}",
        style="bold green" if report["passed"] else "bold red",
    )


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.sandbox", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds instead of {ROUNDS}")
    parser.add_argument("--json", type=Path, help="file for the report")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
