"""``python -m bench.engine``: tokens per CPU second of the engine, beside transformers' own ``generate``.

The table goes to stderr, the report to the file of ``--json``, whose path is all that stdout gets. The exit status
is 0 if and only if every gate holds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console
from transformers import AutoModelForCausalLM

from bench.engine import http, table, workload
from bench.engine.measure import Bench, gates, measure, timed
from gpu.policy import Policy

SCHEMA = 1
AT_ONCE = 16
CHATS = 112
HTTP_PASSES = 6


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    args = _arguments(argv)
    says: Any = transformers.logging
    says.set_verbosity_error()
    says.disable_progress_bar()
    torch.set_num_threads(1)
    console = Console(stderr=True, soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="bench-engine-") as folder:
        report = _report(Path(folder), args, console)
    table.show(report, console)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")
        sys.stdout.write(f"{args.json}\n")
    return 0 if report["passed"] else 1


def _report(folder: Path, args: argparse.Namespace, console: Console) -> dict[str, Any]:
    chats = AT_ONCE + 8 if args.quick else CHATS
    bench = _bench(workload.starter(folder, args.seed), chats, args.seed)
    small = replace(bench, chats=bench.chats[:AT_ONCE])
    console.print("warming up ...", highlight=False)
    measure(small, 1)
    console.print(f"{args.pairs} rounds of {bench.tokens} tokens ...", highlight=False)
    found = measure(bench, args.pairs)
    console.print("over HTTP ...", highlight=False)
    passes = range(2 if args.quick else HTTP_PASSES)
    asked = [workload.chats(bench.version.tokens, chats, args.seed + 1 + number) for number in passes]
    found |= http.measure(
        Path(bench.version.path), asked, AT_ONCE, lambda chats: timed(replace(bench, chats=list(chats)).engine)[0]
    )
    shapes = {"at_once": AT_ONCE, **workload.shapes(bench.chats, bench.plain)}
    held = gates(found)
    return {
        "schema": SCHEMA,
        "quick": args.quick,
        "seed": args.seed,
        **found,
        "shapes": shapes,
        "machine": _machine(),
        "gates": held,
        "passed": all(held.values()),
    }


def _bench(folder: Path, chats: int, seed: int) -> Bench:
    """The starter model. Nothing ends an answer early: all arms say as many tokens as are asked for."""
    policy = Policy(torch.device("cpu"))
    version = policy.load("starter", str(folder))
    plain: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    plain.generation_config.eos_token_id = None
    return Bench(policy, version, plain.eval(), workload.chats(version.tokens, chats, seed), AT_ONCE)


def _machine() -> dict[str, Any]:
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    return {"cpus": os.cpu_count(), "load": round(os.getloadavg()[0], 2), **versions}


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.engine", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--pairs", type=int, default=7, help="rounds of all arms")
    parser.add_argument("--quick", action="store_true", help="few chats, in well under a minute with --pairs 1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the report")
    args = parser.parse_args(argv)
    if args.pairs < 1:
        parser.error(f"--pairs = {args.pairs}: measure at least one")
    return args


if __name__ == "__main__":
    sys.exit(main())
