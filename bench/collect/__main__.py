"""``python -m bench.collect``: from rows to a dataset and from agents to rows, on servers that live for this run alone.

How fast calls are read beside raw COPY and beside SQLAlchemy's ORM, by how much memory grows with the rows, how many
turns a gateway takes in, what is lost while it and Postgres are killed, and how fast heuristics and packing are. The
report goes to stdout as one object, with ``--json`` to a file too; progress goes to stderr. The exit status is 0 if and
only if every bound is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.collect import decode, ingest, memory, pure
from bench.collect.rows import fill
from bench.faults.ground import Ground, fleet_environ, prepared

SCHEMA = 1


@dataclass(frozen=True)
class Size:
    """How much of everything. ``rows`` are calls; a tenth of them is the smaller dataset."""

    rows: int = 40_000
    rounds: int = 5
    turns: int = 10_000
    kills: int = 6
    trajectories: int = 2_000
    groups: int = 200


QUICK = Size(rows=4_000, rounds=3, turns=1_000, kills=2, trajectories=100, groups=10)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    args = _arguments(argv)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    progress, size = Console(stderr=True, soft_wrap=True), QUICK if args.quick else Size()
    report: dict[str, Any] = {"schema": SCHEMA, "quick": args.quick, "machine": _machine()}
    with prepared() as ground:
        os.environ.update(fleet_environ(ground, {}))
        for name, part in (("reading", _reading), ("ingest", _ingest), ("pure", _pure)):
            progress.print(f"{name} ...", highlight=False)
            found = part(ground, size, args.seed)
            progress.print(f"  {json.dumps(found)}", highlight=False, markup=False)
            report |= found
    report |= {"bounds": (held := bounds(report)), "passed": all(held.values())}
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    return 0 if report["passed"] else 1


def bounds(report: Mapping[str, Any]) -> dict[str, bool]:
    """Each bound, and whether it is kept."""
    return {
        **{name: bool(report[name] >= least) for name, least in decode.LEAST.items()},
        "rss_growth_mb": bool(report["rss_growth_mb"] <= memory.GROWTH_MB),
        "ingest_lost": report["ingest_lost"] == 0,
        "ingest_doubled": report["ingest_doubled"] == 0,
    }


def _reading(ground: Ground, size: Size, seed: int) -> dict[str, Any]:
    found = decode.measure(fill(size.rows, 11, seed), size.rounds)
    few, many = (fill(rows, hour, seed, is_uneven=True) for rows, hour in ((size.rows // 10, 12), (size.rows, 13)))
    return found | memory.measure(ground, few, many)


def _ingest(ground: Ground, size: Size, _: int) -> dict[str, Any]:
    return ingest.measure(ground, size.turns, size.kills)


def _pure(_: Ground, size: Size, seed: int) -> dict[str, Any]:
    return pure.measure(size.trajectories, size.groups, size.rounds, seed)


def _machine() -> dict[str, Any]:
    return {"cpus": os.cpu_count(), "load": round(os.getloadavg()[0], 2), "python": platform.python_version()}


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.collect", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the report")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
