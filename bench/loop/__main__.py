"""``python -m bench.loop``: how long a window's last turn waits until the version trained on it is served.

The demo's loop runs on a fleet of its own, once for each seed. The report goes to the file of ``--json``, whose path is
all that stdout gets; progress and the table go to stderr. The exit status is 0 if and only if every window was served,
95 % of them within the goal. What served means is in ``bench/loop/report.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.loop import run
from bench.loop.report import report
from fleet.demo import recipe
from rl.errors import RlfleetError

LAST_SEED = 999


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    args = _arguments(argv)
    console = Console(stderr=True, soft_wrap=True)
    size = recipe.QUICK if args.quick else recipe.Size()
    seeds = list(range(args.seed, args.seed + args.runs))
    try:
        loops, errors = run.play(seeds, size, console)
    except RlfleetError as error:
        console.print(str(error), style="red", markup=False)
        return 1
    outcome = report(loops, errors, wanted=size.rounds * len(seeds))
    outcome |= {"seeds": seeds, "quick": args.quick, "machine": _machine()}
    show(outcome, console)
    if args.json:
        args.json.write_text(json.dumps(outcome, indent=1) + "\n")
        sys.stdout.write(f"{args.json}\n")
    return 0 if outcome["passed"] else 1


def show(outcome: Mapping[str, Any], console: Console) -> None:
    """The report for people."""
    table = Table("seconds", title=f"seeds {outcome['seeds']}")
    for name in ("n", "p50", "p95", "max"):
        table.add_column(name, justify="right")
    measured = {name: value for name, value in outcome.items() if name.endswith(("_served", "_playable", "_released"))}
    for name, values in {**measured, **outcome["stages"]}.items():
        table.add_row(name.replace("_", " "), str(values["n"]), *(_shown(values[key]) for key in ("p50", "p95", "max")))
    console.print(table)
    rates = [f"{outcome[name]} {name.replace('_', ' ')}" for name in outcome if name.endswith("_per_second")]
    console.print("rollouts: " + ", ".join(rates), highlight=False)
    verdict = "passed" if outcome["passed"] else "failed"
    console.print(f"{verdict}: p95 of window to served, at most {outcome['goal_seconds']:.0f} s", highlight=False)


def _shown(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2f}"


def _machine() -> dict[str, Any]:
    return {"cpus": os.cpu_count(), "load": round(os.getloadavg()[0], 2), "python": platform.python_version()}


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.loop", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--runs", type=int, default=3, help="so many demos, each with a seed of its own")
    parser.add_argument("--seed", type=int, default=0, help="the first of the seeds")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--json", type=Path, help="file for the report")
    args = parser.parse_args(argv)
    if args.runs < 1 or args.seed < 0 or args.seed + args.runs - 1 > LAST_SEED:
        parser.error(f"--seed = {args.seed} --runs = {args.runs}: at least one run, and seeds from 0 to {LAST_SEED}")
    return args


if __name__ == "__main__":
    sys.exit(main())
