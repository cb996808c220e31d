"""``python -m bench.gateway``: what a call pays for going through the gateway, beside the same call to the engine.

The starter engine, the gateway and Postgres are the real ones, the callers processes of their own. Throughput is
measured in a closed loop, the arms in turns. Latency is measured in an open loop, both arms at the same time and at
equal rates of arrivals, together half of what the engine alone can do: in a closed loop a call's latency is the number
of connections divided by the throughput, and would say the same thing again; and in turns each arm would meet another
engine. The table goes to stderr, the report to the file of ``--json``, whose path is all that stdout gets. The exit
status is 0 if and only if every gate holds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.engine.workload import starter
from bench.faults.ground import Ground, prepared
from bench.gateway import servers, table
from bench.gateway.load import Job
from bench.gateway.measure import Arm, closed, gates, opened, pairs, together

SCHEMA = 1
CONNECTIONS = 64
NEW_TOKENS = 16
SHARE_OF_DIRECT, SHARE_STREAMED = 0.25, 0.125
"""Of the direct throughput: the rate of arrivals of each arm. A stream costs the engine more."""


@dataclass(frozen=True)
class Size:
    """Pairs of each kind, and calls of one arm of one: many short blocks, because other processes come and go."""

    pairs: int = 15
    closed: int = 640
    open: int = 240
    streamed: int = 120


QUICK = Size(pairs=5, closed=256, open=96, streamed=48)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    args = _arguments(argv)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    console = Console(stderr=True, soft_wrap=True)
    report = {"schema": SCHEMA, "quick": args.quick, "seed": args.seed, "machine": _machine()}
    with ExitStack() as stack:
        ground = stack.enter_context(prepared())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-gateway-")))
        arms = _arms(stack, ground, folder, args.seed)
        report |= _measured(arms, QUICK if args.quick else Size(), console)
    report |= {"gates": (held := gates(report)), "passed": all(held.values())}
    table.show(report, console)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")
        sys.stdout.write(f"{args.json}\n")
    return 0 if report["passed"] else 1


def _arms(stack: ExitStack, ground: Ground, folder: Path, seed: int) -> tuple[Arm, Arm]:
    """The engine itself, and the gateway before it. Both ask for the version by its name."""
    weights = starter(folder, seed)
    servers.add_line()
    version = servers.add_version(weights)
    servers.release(version)
    engine, gateway = servers.engine(ground, weights, version), servers.gateway(ground)
    for server in (engine, gateway):
        stack.callback(server.stop)
        server.start()
    servers.announce(engine, "cpu@bench")
    job = Job("", engine.port, servers.ENGINE_KEY, version, 0, CONNECTIONS, NEW_TOKENS, seed=seed)
    through = Job("", gateway.port, servers.GATEWAY_KEY, servers.LINE, 0, CONNECTIONS, NEW_TOKENS, seed=seed)
    recorded = lambda: int(ground.one("select count(*) from rlfleet.calls")[0])  # noqa: E731
    return Arm("direct", job, engine.pid), Arm("gateway", through, gateway.pid, recorded)


def _measured(arms: tuple[Arm, Arm], size: Size, console: Console) -> dict[str, Any]:
    console.print("warming up ...", highlight=False)
    pairs(arms, "warm", 1, calls=2 * CONNECTIONS)
    console.print(
        f"closed loop, {CONNECTIONS} connections, {size.pairs} pairs of {size.closed} calls ...", highlight=False
    )
    loop = pairs(arms, "closed", size.pairs, calls=size.closed)
    found: dict[str, Any] = {"closed": closed(loop)}
    rate = found["closed"]["direct_per_second"] * SHARE_OF_DIRECT
    halves = _halved(arms[0]), _halved(arms[1])
    console.print(f"open loop, {rate:.0f} calls a second, {size.pairs} pairs of {size.open} ...", highlight=False)
    arriving = together(halves, "open", size.pairs, calls=size.open, rate=rate)
    slower = found["closed"]["direct_per_second"] * SHARE_STREAMED
    console.print(f"streams, {slower:.0f} a second, {size.pairs} pairs of {size.streamed} ...", highlight=False)
    streamed = together(halves, "stream", size.pairs, calls=size.streamed, rate=slower, stream=True)
    found |= {"open": opened(arriving) | {"per_second": round(rate, 1)}}
    found |= {"streamed": opened(streamed) | {"per_second": round(slower, 1)}}
    through = [gateway for kind in (loop, arriving, streamed) for _, gateway in kind]
    return found | {"answered": sum(one.answered for one in through), "recorded": sum(one.stored for one in through)}


def _halved(arm: Arm) -> Arm:
    return replace(arm, job=replace(arm.job, connections=CONNECTIONS // 2))


def _machine() -> dict[str, Any]:
    return {"cpus": os.cpu_count(), "load": round(os.getloadavg()[0], 2), "python": platform.python_version()}


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gateway", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="few calls, in about a minute")
    parser.add_argument("--seed", type=int, default=0, help="of weights, prompts and arrivals")
    parser.add_argument("--json", type=Path, help="file for the report")
    args = parser.parse_args(argv)
    if args.seed < 0:
        parser.error(f"--seed = {args.seed}: give 0 or more")
    return args


if __name__ == "__main__":
    sys.exit(main())
