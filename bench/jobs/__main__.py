"""``python -m bench.jobs``: what a job costs, on a Postgres, a Valkey and workers that live for this run alone.

The report goes to stdout, with ``--json`` as one object to a file too; progress goes to stderr. The exit status is 0 if
and only if every part that has a bound keeps it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.faults.ground import Ground, fleet_environ, prepared
from bench.jobs import burst, claims, cost, recovery
from bench.jobs.scoring import ENVIRON

SCHEMA = 1
Part = Callable[[Ground], dict[str, Any]]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    args = _arguments(argv)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    progress, parts = Console(stderr=True, soft_wrap=True), _parts(args)
    report: dict[str, Any] = {"schema": SCHEMA, "quick": args.quick, "machine": _machine()}
    with prepared() as ground:
        os.environ.update(fleet_environ(ground, ENVIRON))
        for name in args.parts.split(",") if args.parts else parts:
            progress.print(f"{name} ...", highlight=False)
            report[name] = parts[name](ground)
            progress.print(f"  {json.dumps(report[name])}", highlight=False, markup=False)
    report["ok"] = all(part.get("ok", True) for part in report.values() if isinstance(part, dict))
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    sys.stdout.write(_text(report))
    return 0 if report["ok"] else 1


def _parts(args: argparse.Namespace) -> dict[str, Part]:
    quick = args.quick
    return {
        "cost": lambda ground: cost.measure(ground, pairs=5, count=60 if quick else 300),
        "claims": lambda ground: claims.measure(ground, batches=3 if quick else 9, count=200 if quick else 1000),
        "burst": lambda ground: burst.measure(ground, count=300 if quick else 10_000),
        "recovery": lambda ground: recovery.measure(ground, kills=2 if quick else 30, seed=args.seed),
    }


def _machine() -> dict[str, Any]:
    return {"cpus": os.cpu_count(), "load": round(os.getloadavg()[0], 2), "python": platform.python_version()}


def _text(report: dict[str, Any]) -> str:
    """The report for people: a line for each value."""
    lines = []
    for name, part in report.items():
        values = part.items() if isinstance(part, dict) else [("", part)]
        lines += [f"{name:10} {key:26} {value}" for key, value in values]
    return "\n".join(lines) + "\n"


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.jobs", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="small numbers, in about a minute")
    parser.add_argument("--parts", help="some of cost, claims, burst and recovery, separated by commas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the report")
    args = parser.parse_args(argv)
    known = ("cost", "claims", "burst", "recovery")
    if unknown := set((args.parts or "cost").split(",")) - set(known):
        parser.error(f"--parts = {args.parts}: there is no {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return args


if __name__ == "__main__":
    sys.exit(main())
