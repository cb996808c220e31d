"""Claims in a second from one process, beside pgbench with the same statement on the same server."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2
from sqlalchemy import text

from bench.faults.ground import Ground
from bench.jobs import meter
from db import jobs
from db.session import transaction
from fleet import binaries


def measure(ground: Ground, batches: int, count: int) -> dict[str, Any]:
    """``batches`` of ``count`` claims each, ours and the plain ones in turns; claims in a second, medians.

    The plain ones are pgbench's where Postgres' programs have it, else those of a bare psycopg2 connection.
    """
    ground.empty()
    line_id = meter.add_line("claims")
    program = binaries.find_postgres(None, os.environ.get("PATH")).path.with_name("pgbench")
    ours, plain = [], []
    for _ in range(batches):
        first = _add(line_id, 2 * count)
        ours.append(count / _ours(range(first, first + count)))
        rest = range(first + count, first + 2 * count)
        plain.append(_pgbench(ground, program, rest) if program.is_file() else _psycopg2(ground, rest))
    return {
        "batches": batches,
        "claims": count,
        "ours_per_second": round(statistics.median(ours)),
        "plain_per_second": round(statistics.median(plain)),
        "plain": "pgbench" if program.is_file() else "psycopg2",
        "ratio": round(statistics.median(theirs / mine for mine, theirs in zip(ours, plain, strict=True)), 2),
    }


def _add(line_id: int, count: int) -> int:
    """So many queued jobs; the first one's id, from which they count on."""
    with transaction() as session:
        made = session.execute(
            text("""
                insert into rlfleet.jobs (kind, line_id, dedup_key, queue, inputs, config)
                select 'score', :line_id, gen_random_uuid()::text, 'score', '{}', '{}' from generate_series(1, :count)
             returning id
            """),
            {"line_id": line_id, "count": count},
        )
        return min(int(row[0]) for row in made)


def _ours(ids: range) -> float:
    began = time.perf_counter()
    for job_id in ids:
        if jobs.claim(job_id, "bench", 600, f"message-{job_id}") is None:
            raise RuntimeError(f"job {job_id} could not be claimed")
    return time.perf_counter() - began


def _statement(named: Callable[[str], str]) -> str:
    """The statement of a claim, each parameter as ``named`` makes it of the parameter's name."""
    names = ("job_id", "owner", "lease", "devices", "message_id")
    return re.sub(r"\$(\d)", lambda found: named(names[int(found[1]) - 1]), jobs.CLAIM)


def _pgbench(ground: Ground, program: Path, ids: range) -> float:
    """One client, the simple protocol, one transaction a claim, as ours. Claims in a second."""
    given = {"owner": "'bench'", "lease": "600", "devices": "1", "message_id": "'message-' || :job_id"}
    claim = _statement(lambda name: given.get(name, f":{name}")).strip()
    script = "\n".join(["\\set job_id :job_id + 1", "begin;", f"{claim};", "commit;", ""])
    parts = urlsplit(ground.database_url)
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        argv = [str(program), "-n", "-f", file.name, "-t", str(len(ids)), "-D", f"job_id={ids[0] - 1}"]
        where = ["-h", str(parts.hostname), "-p", str(parts.port), "-U", str(parts.username), "postgres"]
        environ = {"PGPASSWORD": str(parts.password), "PATH": os.environ["PATH"]}
        run = subprocess.run([*argv, *where], env=environ, capture_output=True, text=True, check=True)
    _check(ground, ids)
    found = re.search(r"tps = ([\d.]+)", run.stdout)
    if found is None:
        raise RuntimeError(f"pgbench said nothing of its speed: {run.stdout}")
    return float(found[1])


def _psycopg2(ground: Ground, ids: range) -> float:
    """The same statement over a bare connection."""
    statement = _statement(lambda name: f"%({name})s")
    connection = psycopg2.connect(ground.database_url.replace("+psycopg2", ""))
    try:
        began = time.perf_counter()
        for job_id in ids:
            with connection, connection.cursor() as cursor:
                values = {"job_id": job_id, "owner": "bench", "lease": 600, "devices": 1, "message_id": f"m-{job_id}"}
                cursor.execute(statement, values)
        seconds = time.perf_counter() - began
    finally:
        connection.close()
    _check(ground, ids)
    return len(ids) / seconds


def _check(ground: Ground, ids: range) -> None:
    held = ground.one(
        "select count(*) from rlfleet.jobs where state = 'running' and id between :first and :last",
        first=ids[0],
        last=ids[-1],
    )[0]
    if held != len(ids):
        raise RuntimeError(f"{held} of {len(ids)} jobs were claimed")
