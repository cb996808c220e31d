"""``python -m bench.train_ratio``: a training step beside TRL's own and a padded one, on the same model, in turns.

Forward and backward are timed, in CPU seconds of one thread, or between events on a GPU where there is one. The
report goes to stdout, with ``--json`` as one object to a file too; progress goes to stderr. The exit status is 0 if
and only if every gate of the parts that ran holds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.train_ratio import exactness, heads, large
from bench.train_ratio.compare import compare
from bench.train_ratio.model import ON_GPU, Sizes
from bench.train_ratio.report import report, text
from bench.train_ratio.workloads import WORKLOADS

PARTS = (*WORKLOADS, "exactness", "head", "large")


@dataclass(frozen=True)
class Plan:
    """How large things are: shares of the workloads' lengths. Exactness needs no long sequences."""

    pairs: int
    workloads: float = 1.0
    exactness: float = 0.25
    sizes: Sizes | None = None


def main(argv: Sequence[str] | None = None, sizes: Sizes | None = None) -> int:
    """The command line; returns the exit status. ``sizes`` takes the place of the device's model."""
    args = _arguments(argv)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a pool's waiting threads would count as CPU time
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # libraries warn of each other; stderr is for progress
            parts = _measured(_chosen(args.parts, device), _plan(args, sizes), device, args.seed)
    finally:
        torch.set_num_threads(threads)
    found = report(parts, {"pairs": args.pairs, "seed": args.seed, "quick": args.quick, **_machine(device)})
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    sys.stdout.write(text(found))
    return 0 if found["passed"] else 1


def _plan(args: argparse.Namespace, sizes: Sizes | None) -> Plan:
    if args.quick:
        return Plan(args.pairs, 0.5, 0.1, sizes)
    return Plan(args.pairs, sizes=sizes)


def _measured(chosen: Sequence[str], plan: Plan, device: torch.device, seed: int) -> dict[str, Any]:
    on_gpu = device.type == "cuda"
    sizes = plan.sizes or (ON_GPU if on_gpu else Sizes())
    dtype = torch.bfloat16 if on_gpu else torch.float32
    parts: dict[str, Any] = {}
    for name in chosen:
        sys.stderr.write(f"{name} ...\n")
        if name in WORKLOADS:
            one = compare(WORKLOADS[name], sizes, device, dtype, seed, plan.pairs, plan.workloads)
            parts.setdefault("workloads", {})[name] = one
        elif name == "exactness":
            parts[name] = exactness.measure(plan.sizes or Sizes(), device, seed, plan.exactness)
        elif name == "head":
            parts[name] = heads.measure(device, seed)
        else:
            noise = large.exactness(ON_GPU, device, dtype, seed, plan.workloads)
            parts[name] = noise | large.epoch(large.Scene(), device, seed)
    return parts


def _chosen(named: str | None, device: torch.device) -> list[str]:
    """The parts to run; all that the device can by default."""
    if named:
        return named.split(",")
    return [part for part in PARTS if part != "large" or device.type == "cuda"]


def _machine(device: torch.device) -> dict[str, Any]:
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type}, one thread",
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.train_ratio", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--json", type=Path, help="file for the report")
    parser.add_argument("--pairs", type=int, help="rounds in which every arm takes a turn (7, or 3 with --quick)")
    parser.add_argument("--parts", help=f"some of {', '.join(PARTS)}, separated by commas")
    parser.add_argument("--quick", action="store_true", help="half the lengths and fewer pairs, in about two minutes")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    args.pairs = args.pairs if args.pairs is not None else (3 if args.quick else 7)
    if args.pairs < 1:
        parser.error(f"--pairs = {args.pairs}: measure at least one")
    if unknown := set((args.parts or PARTS[0]).split(",")) - set(PARTS):
        parser.error(f"--parts = {args.parts}: there is no {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if "large" in (args.parts or "").split(",") and not torch.cuda.is_available():
        parser.error("--parts = large: a 14B model needs a GPU; leave it out here")
    return args


if __name__ == "__main__":
    sys.exit(main())
