"""Rows 19 and 20: more than one of everything that must act once, and none of it for a while."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.faults.bench import Bench
from bench.faults.bulk import ends, score_jobs, scores
from bench.faults.expect import expect, wait_until
from bench.faults.ground import fleet_environ
from bench.faults.hosts import Host
from bench.faults.rows import Ours, row
from bench.faults.skew import skewed
from fleet.spawn import spawn

ROOT = Path(__file__).resolve().parents[3]
PERIOD_SECONDS = 2
OUTAGE_SECONDS = 3600
"""How long beat believes to have been away: 1800 ticks."""

SCHEDULE = f"""
from datetime import timedelta

ENTRIES = {{
    "collect": {{
        "task": "rlfleet.plan",
        "schedule": timedelta(seconds={PERIOD_SECONDS}),
        "args": ("collect", {PERIOD_SECONDS}),
        "options": {{"expires": 30}},
    }},
}}
"""
"""The fleet's own schedule has entries of a minute; this one is quicker, and the beats and tasks are the real ones."""


@row(19, "two beats; a beat killed at any moment, twice; a beat that was down for an hour", limit_seconds=90)
def beats(bench: Bench) -> Ours:
    """However often a tick is sent it is taken once, and what was missed is not made up tick by tick."""
    bench.workers.stand()
    bench.work.accept(bench.work.line(steps=2))
    with Beats(bench) as beats:
        _two_and_killed(bench, beats)
        _down_for_an_hour(beats)
        bench.work.wait_all(30)
        return bench.work.ours(slots=slots(bench), ticks_sent=beats.total)


def _two_and_killed(bench: Bench, beats: Beats) -> None:
    beats.start("one", "two")
    wait_until(lambda: slots(bench) >= 2, 30, "two slots taken")
    for name in ("one", "two"):
        time.sleep(bench.rng.uniform(0, PERIOD_SECONDS))
        beats.kill(name)
        beats.start(name)
    wait_until(lambda: slots(bench) >= 6, 40, "six slots taken")
    expect(beats.total > slots(bench), "no tick was sent twice: the row does not break what it says")
    beats.kill("one", "two")


def _down_for_an_hour(beats: Beats) -> None:
    beats.start("away", skew=-OUTAGE_SECONDS)
    beats.await_sent("away", 1)
    beats.kill("away")
    sent = beats.sent("away")
    beats.start("away")
    began = time.monotonic()
    beats.await_sent("away", sent + 2)
    caught_up = beats.sent("away") - sent
    allowed = 2 + (time.monotonic() - began) / PERIOD_SECONDS
    expect(caught_up <= allowed, f"after an hour away beat sent {caught_up} ticks at once; the last alone is wanted")
    beats.kill("away")


def slots(bench: Bench) -> int:
    """How many ticks were taken; each must lie on the schedule, which makes it one row a slot."""
    query = "select extract(epoch from slot_at)::bigint from rlfleet.schedule_slots where name = 'collect'"
    rows = bench.ground.rows(query)
    expect(all(int(row[0]) % PERIOD_SECONDS == 0 for row in rows), "a slot lies between two ticks")
    return len(rows)


class Beats:
    """Real beats on a quick schedule, killed at the end of the block. Use it from the main thread."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._folder = bench.ground.folder("beats")
        (self._folder / "beat_schedule.py").write_text(SCHEDULE)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill(*list(self._running))

    @property
    def total(self) -> int:
        """Ticks sent by all of them."""
        return sum(self._read(log) for log in self._folder.glob("*.log"))

    def start(self, *names: str, skew: int = 0, host: Host | None = None) -> None:
        """Start beats; one that ran before under its name goes on with what it remembers of its last ticks."""
        for name in names:
            words = ["beat", "-s", str(self._folder / f"{name}.db"), "--pidfile=", "-l", "INFO"]
            more: Mapping[str, str] = {"PYTHONPATH": f"{self._folder}:{ROOT}"}
            if skew:
                more = {**more, **skewed(skew, self._bench.ground.folder("skew"))}
            if host:
                more = {**more, **host.environ(self._bench.ground)}
            self._running[name] = spawn(
                [*(host.enter if host else ()), sys.executable, "-m", "celery", "-A", "worker.app", *words],
                env=fleet_environ(self._bench.ground, more),
                log=self._log(name),
                death_signal=signal.SIGKILL,
                cwd=self._bench.ground.folder("cwd"),
            )

    def kill(self, *names: str) -> None:
        """SIGKILL, in whatever they are doing."""
        for name in names:
            process = self._running.pop(name)
            process.kill()
            process.wait()

    def sent(self, name: str) -> int:
        """Ticks that this beat says it has sent."""
        return self._read(self._log(name))

    def await_sent(self, name: str, number: int) -> None:
        """Until it has sent so many."""
        wait_until(lambda: self.sent(name) >= number, 30, f"{number} ticks of beat {name}")

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    @staticmethod
    def _read(log: Path) -> int:
        return log.read_text(errors="replace").count("Sending due task collect") if log.exists() else 0


ROWS = 200
ACTORS = 4
REAP_AND_RING = """
import json, sys, time
from db import dispatch, jobs
sys.stdin.readline()
reaped, rung, deadline = [], [], time.monotonic() + 4
while time.monotonic() < deadline:
    reaped += jobs.reap(7)
    rung += [job for job, _ in dispatch.due(3600, {"score": 5}, {"score": 0})]
print(json.dumps([reaped, rung]))
"""
"""Small bites, so that all of the actors are at it at the same time."""


@row(20, "four reconcilers and dispatchers at once", limit_seconds=90)
def many_reconcilers(bench: Bench) -> Ours:
    """No job is taken back twice for one lost lease, and none is rung twice."""
    bench.workers.stop("score", "maint")
    lapsed = _make_rows(bench)
    actors = [_actor(bench) for _ in range(ACTORS)]
    for actor in actors:
        assert actor.stdin is not None
        actor.stdin.write("\n")
        actor.stdin.flush()
    found = [actor.communicate(timeout=60)[0] for actor in actors]
    _judge(found, lapsed)
    bench.workers.stand()
    bench.ground.do("update rlfleet.jobs set run_at = now(), last_sent_at = null where state = 'queued'")
    ended = "select count(*) from rlfleet.jobs where state <> 'succeeded'"
    wait_until(lambda: bench.ground.one(ended)[0] == 0, 60, "the end of all jobs")
    written, succeeded = scores(bench), ends(bench)
    expect(written == succeeded == 2 * ROWS, f"{written} scores and {succeeded} ends of {2 * ROWS} jobs")
    return Ours(2 * ROWS, written, None, {"actors": ACTORS, "succeeded": succeeded})


def _make_rows(bench: Bench) -> set[int]:
    """Jobs whose holders are gone, whose ids are returned, and as many that are due."""
    ids = score_jobs(bench, lines=4, jobs=2 * ROWS, each=True)
    gone = ids[:ROWS]
    bench.ground.do(
        "update rlfleet.jobs set state = 'running', attempt = 1, fence = 1, owner = 'gone:1',"
        " lease_until = now() - interval '1 second' where id = any(:ids)",
        ids=gone,
    )
    return set(gone)


def _actor(bench: Bench) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", REAP_AND_RING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=fleet_environ(bench.ground, {"PYTHONPATH": str(ROOT)}),
    )


def _judge(answers: list[str], lapsed: set[int]) -> None:
    both = [json.loads(answer) for answer in answers]
    reaped = Counter(job for reaped, _ in both for job in reaped)
    rung = Counter(job for _, rung in both for job in rung)
    expect(set(reaped) == lapsed, f"{len(reaped)} of {len(lapsed)} lost jobs were taken back")
    expect(max(reaped.values()) == 1, "a job was taken back twice")
    expect(rung and max(rung.values()) == 1, "a job was rung twice, or none at all")
    expect(len(rung) <= 2 * 5, f"{len(rung)} jobs were rung, and 10 are allowed")
    expect(sum(1 for reaped, _ in both if reaped) > 1, "one process alone took everything back: nothing was tried")
