"""A worker of the queue ``score`` as the fleet starts it, that knows the bare task too."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

from bench.faults.ground import Ground, fleet_environ
from bench.faults.workers import Worker
from fleet.process import Child
from fleet.processes import Plan, processes

ENVIRON: dict[str, str] = {"RLFLEET_GATEWAY_URL": "http://127.0.0.1:9"}
"""Everything else is as it is built in."""


@contextmanager
def scoring(ground: Ground) -> Iterator[Worker]:
    """The worker, which consumes, until the end of the block."""
    environ = fleet_environ(ground, ENVIRON)
    plan = Plan(environ, ("cpu",), "http://127.0.0.1:9", "http://127.0.0.1:9", ground.home.path)
    usual = next(one for one in processes(plan) if one.name == "worker-score")
    words = list(usual.argv)
    words[words.index("--include") + 1] += ",bench.jobs.noop"
    process = dataclasses.replace(usual, argv=words, cwd=ground.folder("cwd"))
    worker = Worker("score", Child(process, ground.home, ground.watchdog))
    worker.start()
    try:
        worker.wait_ready()
        yield worker
    finally:
        worker.kill()
