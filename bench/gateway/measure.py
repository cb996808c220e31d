"""Both arms in turns, and what their numbers say together."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import psutil

from bench.faults.expect import wait_until
from bench.gateway.load import Job, Seen
from fleet.processes import ROOT

LEAST_THROUGHPUT = 0.6
MOST_ADDED_MS = 5.0
STORED_SECONDS = 120.0
LOAD_SECONDS = 600.0
START_SECONDS = 1.0
"""Until two processes of callers have connected."""


@dataclass(frozen=True)
class Arm:
    """Where calls go, and the process whose CPU is counted. ``recorded`` counts the calls stored so far."""

    name: str
    job: Job
    pid: int
    recorded: Callable[[], int] = lambda: 0


@dataclass(frozen=True)
class Block:
    """One job in one arm: what the callers saw, CPU seconds of the arm's process, seconds until all was stored."""

    seen: Seen
    cpu: float
    behind: float
    stored: int

    @property
    def answered(self) -> int:
        return len(self.seen.latencies)

    @property
    def throughput(self) -> float:
        return self.answered / self.seen.seconds


Pair = tuple[Block, Block]
"""The same job to the engine itself, and through the gateway."""


def pairs(arms: tuple[Arm, Arm], kind: str, count: int, **changes: Any) -> list[Pair]:
    """``count`` times both arms, each first in every second pair. ``changes`` are fields of their jobs."""
    found = []
    for number in range(count):
        blocks: dict[str, Block] = {}
        for arm in arms if number % 2 else arms[::-1]:
            named: dict[str, Any] = {"name": f"{kind}-{arm.name}", "seed": arm.job.seed * 1000 + number}
            blocks[arm.name] = block(arm, replace(arm.job, **(named | changes)))
        found.append((blocks[arms[0].name], blocks[arms[1].name]))
    return found


def together(arms: tuple[Arm, Arm], kind: str, count: int, **changes: Any) -> list[Pair]:
    """``count`` times both arms at the same moments: each meets the same engine and the same machine."""
    found = []
    for number in range(count):
        common: dict[str, Any] = {"seed": arms[0].job.seed * 1000 + number, "begin": time.monotonic() + START_SECONDS}
        jobs = [replace(arm.job, **({"name": f"{kind}-{arm.name}"} | common | changes)) for arm in arms]
        with ThreadPoolExecutor(len(arms)) as pool:
            direct, gateway = pool.map(block, arms, jobs)
        found.append((direct, gateway))
    return found


def block(arm: Arm, job: Job) -> Block:
    """Play the job; over when everything that the arm records is stored, so that no arm pays for the other.

    Raises:
        RuntimeError: a call was not answered as it should be.
    """
    process, before = psutil.Process(arm.pid), arm.recorded()
    cpu = _cpu_seconds(process)
    seen = _played(job)
    if seen.wrong:
        raise RuntimeError(f"{job.name}: {seen.wrong}")
    ended = time.monotonic()
    if arm.name == "gateway":
        wait_until(lambda: arm.recorded() - before >= job.calls, STORED_SECONDS, f"storing the calls of {job.name}")
    behind = time.monotonic() - ended
    return Block(seen, _cpu_seconds(process) - cpu, behind, arm.recorded() - before)


def _played(job: Job) -> Seen:
    command = [sys.executable, "-m", "bench.gateway.load"]
    words = json.dumps(asdict(job))
    done = subprocess.run(
        command, input=words, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, timeout=LOAD_SECONDS
    )
    return Seen(**json.loads(done.stdout))


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def closed(found: Sequence[Pair]) -> dict[str, Any]:
    """Calls in a second of both arms, their ratio in each pair, and what a call costs the gateway."""
    ratios = [gateway.throughput / direct.throughput for direct, gateway in found]
    return {
        "direct_per_second": round(statistics.median(direct.throughput for direct, _ in found), 1),
        "gateway_per_second": round(statistics.median(gateway.throughput for _, gateway in found), 1),
        "throughput": round(statistics.median(ratios), 3),
        "throughputs": [round(one, 3) for one in ratios],
        **_cost(found),
    }


def opened(found: Sequence[Pair]) -> dict[str, Any]:
    """Milliseconds of both arms over the calls of all pairs; ``added`` is the median over the pairs of what the
    gateway adds to the median.
    """
    added = [
        1000 * (_quantile(gateway.seen.latencies, 0.5) - _quantile(direct.seen.latencies, 0.5))
        for direct, gateway in found
    ]
    report: dict[str, Any] = {"added_ms": round(statistics.median(added), 2), "added": [round(one, 2) for one in added]}
    for at, name in enumerate(("direct", "gateway")):
        report[f"{name}_ms"] = spread([second for pair in found for second in pair[at].seen.latencies])
        if firsts := [second for pair in found for second in pair[at].seen.firsts]:
            report[f"{name}_first_text_ms"] = spread(firsts)
    return report | _cost(found)


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 90th and 99th percentile in milliseconds, each a value that was seen."""
    return {f"p{percent}": round(1000 * _quantile(seconds, percent / 100), 2) for percent in (50, 90, 99)}


def gates(report: dict[str, Any]) -> dict[str, bool]:
    """Each gate, and whether it holds."""
    return {
        "throughput": report["closed"]["throughput"] >= LEAST_THROUGHPUT,
        "added_ms": report["open"]["added_ms"] <= MOST_ADDED_MS,
        "recorded": report["recorded"] == report["answered"],
    }


def _cost(found: Sequence[Pair]) -> dict[str, Any]:
    """CPU milliseconds of the gateway's process a call, recording included, and how long storing lagged at most."""
    cpu = [1000 * gateway.cpu / gateway.answered for _, gateway in found]
    behind = max(gateway.behind for _, gateway in found)
    return {"cpu_ms_a_call": round(statistics.median(cpu), 2), "stored_after_seconds": round(behind, 2)}


def _quantile(values: Sequence[float], share: float) -> float:
    """The nearest rank."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
