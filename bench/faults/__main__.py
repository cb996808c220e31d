"""``python -m bench.faults``: break a real fleet in every way of the matrix, and see whether each effect is there once.

The seed is printed first; with it, a run can be repeated. The JSON goes to the file of ``--json``, whose path is all
that stdout gets; progress and the table go to stderr. The exit status is 0 if and only if every row has passed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.faults import table
from bench.faults.bench import ENVIRON, LEASE_SECONDS, TICK_SECONDS
from bench.faults.ground import fleet_environ, prepared
from bench.faults.rows import RawOf, Row, registered
from bench.faults.run import Options, Result, Runner
from rl.errors import StartError

SCHEMA = 1
WIDTH = 150
"""Columns of the table where stderr is no terminal."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    args = _arguments(argv)
    console = Console(stderr=True, soft_wrap=True, width=None if sys.stderr.isatty() else WIDTH)
    console.print(f"seed {args.seed}", highlight=False)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    chosen = _chosen(args.rows, args.quick, console)
    try:
        results = _run(chosen, Options(args.seed, args.quick, args.minutes, not args.no_raw), console)
    except StartError as error:
        console.print(str(error), style="red", markup=False)
        return 1
    report = _report(results, args.seed)
    table.show(report, console)
    if args.markdown:
        args.markdown.write_text(table.markdown(report))
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")
        sys.stdout.write(f"{args.json}\n")
    return 0 if report["passed"] else 1


def _run(chosen: Sequence[tuple[Row, RawOf | None]], options: Options, console: Console) -> list[Result]:
    results = []
    with prepared() as ground:
        os.environ.update(fleet_environ(ground, ENVIRON))
        runner = Runner(ground, options)
        try:
            for row, raw in chosen:
                console.print(f"row {row.number}: {row.fault}", highlight=False, markup=False)
                results.append(runner.run(row, raw))
                _say(results[-1], console)
        finally:
            runner.close()
            _keep_logs(ground.logs, results, console)
    return results


def _say(result: Result, console: Console) -> None:
    ours = result.ours
    what = f"{ours.effects} effects of {ours.jobs} jobs" if ours else "no outcome"
    back = f", back after {ours.recovery_seconds:.1f} s" if ours and ours.recovery_seconds is not None else ""
    raw = f"; raw: {result.raw.effects} of {result.raw.jobs}" if result.raw else ""
    word = "passed" if result.passed else "FAILED"
    console.print(f"  {word} in {result.seconds:.1f} s: {what}{back}{raw}", highlight=False, markup=False)
    for complaint in result.complaints:
        console.print(f"  {complaint}", style="red", highlight=False, markup=False)
    if result.reason and result.reason.startswith("raw Celery was not"):
        console.print(f"  {result.reason}", style="yellow", highlight=False, markup=False)


def _keep_logs(logs: Path, results: Sequence[Result], console: Console) -> None:
    """The folder of everything is removed; what a failed row needs to be understood is kept beside it."""
    if all(result.passed for result in results):
        return
    kept = logs.parents[1].with_name(f"{logs.parents[1].name}-logs")
    kept.mkdir(exist_ok=True)
    for log in [*logs.glob("*.log"), *logs.parent.glob("state*/logs/*.log")]:
        (kept / log.name).write_bytes(log.read_bytes())
    console.print(f"logs are in {kept}", highlight=False, markup=False)


def _report(results: Sequence[Result], seed: int) -> dict[str, Any]:
    """The whole as JSON; what the chaos and the model say of themselves comes from the notes of their row."""
    rows = [result.public() for result in results]
    notes = [dict(result.ours.notes) for result in results if result.ours]
    return {
        "schema": SCHEMA,
        "passed": bool(results) and all(result.passed for result in results),
        "seed": seed,
        "lease_seconds": LEASE_SECONDS,
        "tick_seconds": TICK_SECONDS,
        "rows": rows,
        "chaos": next((one["chaos"] for one in notes if "chaos" in one), None),
        "model_examples": next((one["model_examples"] for one in notes if "model_examples" in one), None),
    }


def _chosen(numbers: str | None, quick: bool, console: Console) -> list[tuple[Row, RawOf | None]]:
    """The rows to do. What this machine cannot do is left out with a word, unless its number was given."""
    known = registered()
    if numbers is None:
        usual = [(row, raw) for row, raw in known if row.quick or not quick]
        lacking = {row.number: why for row, _ in usual if (why := row.missing())}
        for number, why in lacking.items():
            console.print(f"row {number} is left out: {why}", style="yellow", highlight=False, markup=False)
        return [(row, raw) for row, raw in usual if row.number not in lacking]
    wanted = {int(number) for number in numbers.split(",")}
    if missing := wanted - {row.number for row, _ in known}:
        sys.stderr.write(f"--rows = {numbers}: there is no row {', '.join(map(str, sorted(missing)))}\n")
        sys.exit(2)
    return [(row, raw) for row, raw in known if row.number in wanted]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, help="how long the chaos lasts; also lengthens other long rows")
    parser.add_argument("--quick", action="store_true", help="a few rows, in about two minutes")
    parser.add_argument("--rows", help="numbers of rows, separated by commas")
    parser.add_argument("--no-raw", action="store_true", help="leave raw Celery out")
    parser.add_argument("--json", type=Path, help="file for the report")
    parser.add_argument("--markdown", type=Path, help="file for the report as a page")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
