"""``python -m bench.metrics``: what a scrape of the admin server's metrics costs the database.

On a Postgres that lives for this run alone, with so many jobs, their events and deliveries, a year of windows and a day
of traffic; none of the counters' rows is added up yet, which is the worst case. The exit status is 0 if and only if the
median scrape keeps the goal.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import text

from bench.faults.ground import fleet_environ, prepared

GOAL_SECONDS = 0.5
ROWS = """
    insert into rlfleet.lines (name, config) values ('main', '{"base_model": "m"}');
    insert into rlfleet.jobs (kind, line_id, dedup_key, queue, inputs, config, state, lease_until, heartbeat_at)
    select (array['collect', 'score', 'train', 'decide'])[1 + n % 4], 1, n, (array['collect', 'score', 'gpu', 'maint'])
           [1 + n % 4], jsonb_build_object('window', repeat('w', 20)), jsonb_build_object('config', repeat('c', 800)),
           'queued', null, null from generate_series(1, :jobs) n;
    update rlfleet.jobs set state = 'running', attempt = 1, fence = 1, lease_until = now() + interval '1 hour',
           heartbeat_at = now() where id % 10 > 0 and (kind <> 'train' or id = 3);
    update rlfleet.jobs set state = 'queued', lease_until = null, error = 'the lease ran out'
     where state = 'running' and id % 10 = 1;
    update rlfleet.jobs set state = 'running', fence = 2, lease_until = now() + interval '1 hour'
     where id % 10 = 1 and (kind <> 'train' or id = 3);
    update rlfleet.jobs set state = 'succeeded', lease_until = null, finished_at = now()
     where state = 'running' and id > 100;
    insert into rlfleet.deliveries (message_id, job_id, outcome)
    select n, 1 + n % :jobs, (array['claimed', 'claimed', 'skipped'])[1 + n % 3] from generate_series(1, 3 * :jobs) n;
    insert into rlfleet.windows (line_id, name, state, starts_at, ends_at)
    select 1, n, 'trained', now() - make_interval(hours => n + 1), now() - make_interval(hours => n)
      from generate_series(0, 8760) n;
    analyze;
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.metrics", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--scrapes", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="2,000 jobs")
    parser.add_argument("--json", type=Path, help="file for the report")
    args = parser.parse_args(argv)
    with prepared() as ground:
        os.environ.update(fleet_environ(ground, {}))
        report = _measured(2000 if args.quick else args.jobs, args.scrapes)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    return 0 if report["ok"] else 1


def _measured(jobs: int, scrapes: int) -> dict[str, Any]:
    from admin.metrics import text_of
    from db import counted
    from db.metrics import QUERIES, snapshot
    from db.session import transaction

    with transaction() as session:
        for statement in filter(None, map(str.strip, ROWS.split(";"))):
            session.execute(text(statement), {"jobs": jobs} if ":jobs" in statement else {})

    def timed() -> tuple[float, int]:
        began = time.perf_counter()
        content, _ = text_of(snapshot(), "")
        return time.perf_counter() - began, len(content)

    timed()
    taken = [timed() for _ in range(scrapes)]
    queries: dict[str, float] = {}
    with transaction() as session:
        for name, query in QUERIES.items():
            began = time.perf_counter()
            session.execute(text(query)).all()
            queries[name] = round(1000 * (time.perf_counter() - began), 1)
        began = time.perf_counter()
        counted.counters(session.execute)
        queries["counters"] = round(1000 * (time.perf_counter() - began), 1)
    counted.add_up(settle_seconds=0)
    later = [timed()[0] for _ in range(scrapes)]
    median = statistics.median(seconds for seconds, _ in taken)
    return {
        "schema": 1,
        "jobs": jobs,
        "scrape_ms": round(1000 * median, 1),
        "longest_ms": round(1000 * max(seconds for seconds, _ in taken), 1),
        "added_up_ms": round(1000 * statistics.median(later), 1),
        "bytes": taken[0][1],
        "statements": 2 * len(QUERIES) + 11,
        "query_ms": queries,
        "ok": median < GOAL_SECONDS,
    }


if __name__ == "__main__":
    sys.exit(main())
