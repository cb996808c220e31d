"""Row 27: many faults at random, and a thousand random histories of one job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from bench.faults.bench import Bench
from bench.faults.chaos import Chaos
from bench.faults.expect import expect
from bench.faults.rows import Ours, row

ROOT = Path(__file__).resolve().parents[3]
CHAOS_SECONDS, QUICK_CHAOS_SECONDS = 90.0, 10.0
EXAMPLES, QUICK_EXAMPLES = 1000, 50
DATABASE = "model"


@row(27, "random faults, several at once; random histories of the job machine", limit_seconds=420, quick=True)
def random_faults(bench: Bench) -> Ours:
    """Whatever comes together, in whatever order, each effect is there once."""
    seconds = QUICK_CHAOS_SECONDS if bench.quick else 60 * bench.minutes if bench.minutes else CHAOS_SECONDS
    chaos = Chaos(bench).run(seconds)
    expect(chaos["passed"], f"under random faults: {chaos}")
    examples = _play(bench, QUICK_EXAMPLES if bench.quick else EXAMPLES)
    return bench.work.ours(chaos=chaos, model_examples=examples)


def _play(bench: Bench, examples: int) -> int:
    """Play random histories in a database of their own; how many held, which is all of them or an error."""
    with _database(bench.ground.database_url) as url:
        words = ["-m", "bench.faults.model", "--examples", str(examples), "--seed", str(bench.seed)]
        environ = dict(os.environ) | {"DATABASE_URL": url, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, *words], env=environ, capture_output=True, text=True, check=False)
    expect(done.returncode == 0, f"a history broke the model: {done.stderr.strip()[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return int(answer["examples"])


@contextmanager
def _database(url: str) -> Iterator[str]:
    """An empty database on the same server, dropped afterwards."""
    _execute(url, f"create database {DATABASE}")
    try:
        yield urlunsplit(urlsplit(url)._replace(path=f"/{DATABASE}"))
    finally:
        _execute(url, f"drop database {DATABASE} with (force)")


def _execute(url: str, statement: str) -> None:
    import psycopg2

    connection = psycopg2.connect("postgresql://" + url.split("://", 1)[1])
    try:
        connection.autocommit = True
        connection.cursor().execute(statement)
    finally:
        connection.close()
