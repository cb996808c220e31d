"""``python -m bench.release_look``: how long a look at a live canary takes, by the calls that it has to read.

Calls of 400 agents, four in an episode with a reward, are spread over the canary's hours; each number of calls is
looked at three times, as ``rlfleet.watch_releases`` does, on a Postgres that lives for this run alone. The report goes
to stdout as one object. There is no bound: whoever reads it compares with the time that a look has.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

from bench.faults.ground import fleet_environ, prepared
from db import canaries, decisions, dispatch, lines, live, partitions, releases, versions
from db.session import engine, transaction
from db.windows import database_now
from rl.config import LineConfig
from rl.live import looked
from rl.release_plan import Plan

SCHEMA = 1
CALLS = (60_000, 600_000)
TIMES = 3
HOURS = 70
FILL_SECONDS = 3600.0

# Whom the share gives the canary is decided by the agent's place, so the model is set by it too.
MAKE_CALLS = text(f"""
    insert into rlfleet.calls (trajectory_id, turn, call_id, at, line, model, agent_id, body, created_at)
    select 't' || n / 4, n % 4, 't' || n, moment, 'main', case when place < 10 then :canary else :stable end, unit,
           '{{"messages": []}}', moment
      from (select n, unit, {live.PLACE} as place, now() - n * (make_interval(hours => :hours) / :calls) as moment
              from (select n, 'agent-' || (n / 4) % 400 as unit from generate_series(1, :calls) as s(n)) a) b
""")  # noqa: S608 (of a constant)
MAKE_REWARDS = text("""
    insert into rlfleet.recordings (trajectory_id, line, reward, ended_at)
    select 't' || n, 'main', (n * 7919) % 2, now() from generate_series(1, :calls / 4) as s(n)
""")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.release_look", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--calls", type=int, nargs="+", default=CALLS, help="how many calls there are")
    args = parser.parse_args(argv)
    with prepared() as ground:
        os.environ.update(fleet_environ(ground, {}))
        with transaction() as session:
            begin(session)
        found = [measure(calls) for calls in sorted(args.calls)]
    sys.stdout.write(json.dumps({"schema": SCHEMA, "looks": found}, indent=1) + "\n")
    return 0


def begin(session: Session) -> None:
    """A line with a stable version and a canary that began ``HOURS`` and one more ago, with nothing on disk."""
    line_id = lines.put(session, "main", LineConfig(base_model="none"))
    line, now = lines.named(session, "main"), database_now(session)
    partitions.ensure([now - timedelta(hours=HOURS), now])
    for number in range(2):
        spec = dispatch.Spec("train", line_id, inputs={"n": number}, config={}, queue="gpu")
        made = versions.add(
            session,
            line=line,
            prefix=lines.DEFAULT_PREFIX,
            job_id=dispatch.request(session, spec),
            fence=1,
            checkpoints=[versions.NewCheckpoint(1, "adapter", "/none", "/none", str(number) * 64, {})],
            parent_id=None,
            base_model="none",
            manifest={},
        )
        versions.set_state(session, [made.id], "ready", "for a benchmark")
        decision = decisions.by_person(session, line_id, made.id, "for a benchmark", "bench")
        if number:
            releases.start_canary(session, line_id, made.id, decision, Plan(), "for a benchmark")
        else:
            releases.replace_stable(session, line_id, made.id, decision, 100, "for a benchmark")
    back = "update rlfleet.releases set created_at = now() - make_interval(hours => :hours)"
    session.execute(text(back), {"hours": HOURS + 1})


def measure(calls: int) -> dict[str, float]:
    """The median seconds of a look at so many calls, in the database and in all."""
    with transaction(FILL_SECONDS) as session:
        session.execute(text("truncate rlfleet.calls, rlfleet.recordings"))
        (canary,) = canaries.canaries(session)
        names = {"canary": canary.version, "stable": canary.stable, "line": canary.line}
        session.execute(MAKE_CALLS, names | {"calls": calls, "hours": HOURS})
        session.execute(MAKE_REWARDS, {"calls": calls})
    with engine().connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(text("vacuum analyze rlfleet.calls, rlfleet.recordings"))
    read, whole = [], []
    for _ in range(TIMES):
        began = time.monotonic()
        with transaction(FILL_SECONDS) as session:
            (canary,) = canaries.canaries(session)
            seen = live.seen(session, canary, FILL_SECONDS)
        read.append(time.monotonic() - began)
        looked(seen, canary.plan, canary.place)
        whole.append(time.monotonic() - began)
    return {
        "calls": calls,
        "rewards": sum(one.n for one in seen.rewards["reward"]),
        "database_seconds": round(statistics.median(read), 2),
        "seconds": round(statistics.median(whole), 2),
    }


if __name__ == "__main__":
    sys.exit(main())
