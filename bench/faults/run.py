"""One row from beginning to end: a clean table, the fault, the verdict of the invariants, and raw Celery beside it."""

from __future__ import annotations

import contextlib
import signal
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.faults import invariants
from bench.faults.bench import ENVIRON, Bench
from bench.faults.ground import Ground
from bench.faults.journal import VARIABLE
from bench.faults.rows import Ours, Raw, RawOf, Row
from bench.faults.workers import Workers

AGAIN_SECONDS = 10.0
"""A row that is over its time is told so again, in case that the place where it heard of it could raise nothing."""


class OutOfTime(BaseException):
    """A row took longer than it may. No ``Exception``: what a row suppresses or waits for must not swallow it."""


@dataclass(frozen=True)
class Options:
    """What the command line says. ``minutes`` lengthens the rows that can use more time."""

    seed: int = 0
    quick: bool = False
    minutes: float | None = None
    raw: bool = True


@dataclass
class Result:
    """What came of a row. ``complaints`` say what failed, in words; the row has passed when there is none."""

    row: Row
    ours: Ours | None = None
    raw: Raw | None = None
    invariants: Mapping[str, bool] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    reason: str | None = None
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether the row ended in time, found what it expects, and every invariant holds."""
        return self.ours is not None and not self.complaints

    def public(self) -> dict[str, object]:
        """The row as it stands in the JSON."""
        about = asdict(self.ours) if self.ours else {"jobs": 0, "effects": 0, "recovery_seconds": None, "notes": {}}
        verdict = {"passed": self.passed, "invariants": dict(self.invariants), "seconds": round(self.seconds, 1)}
        return {
            "row": self.row.number,
            "fault": self.row.fault,
            "limit_seconds": self.row.limit_seconds,
            "ours": about | verdict,
            "raw": asdict(self.raw) if self.raw else None,
            "reason": "; ".join(self.complaints) or self.reason,
        }


class Runner:
    """Runs rows on one set of servers and workers."""

    def __init__(self, ground: Ground, options: Options) -> None:
        self.ground, self.options = ground, options
        self.journal = ground.folder("journal") / "devices"
        self.workers = Workers(ground, ENVIRON | {VARIABLE: str(self.journal)})

    def run(self, row: Row, raw: RawOf | None) -> Result:
        """The fault on our fleet, then on raw Celery where there is a counterpart."""
        result = Result(row)
        began = time.monotonic()
        bench = self._bench(row)
        self._ours(bench, result)
        result.seconds = time.monotonic() - began
        self._clean_up(bench, failed=not result.passed)
        if raw is None:
            result.reason = row.reason
        elif self.options.quick or not self.options.raw:
            result.reason = "raw Celery was left out"
        else:
            self._raw(raw, result)
        return result

    def close(self) -> None:
        """End every worker."""
        self.workers.close()

    def _bench(self, row: Row) -> Bench:
        self.ground.empty()
        self.journal.write_text("")
        here = self.options
        return Bench(self.ground, self.workers, row=row.number, seed=here.seed, quick=here.quick, minutes=here.minutes)

    def _ours(self, bench: Bench, result: Result) -> None:
        """A row that fails is judged too: what it broke says why."""
        row = result.row
        try:
            # Rows that can go on for longer are given the minutes that were asked for.
            with time_limit(row.limit_seconds + 60 * (self.options.minutes or 0), f"row {row.number}"):
                result.ours = row.ours(bench)
        except (Exception, OutOfTime) as error:
            result.complaints.append(told(error))
        try:
            self._judge(bench, result)
        except Exception as error:
            result.complaints.append(f"the invariants could not be checked: {told(error)}")

    def _judge(self, bench: Bench, result: Result) -> None:
        recovery = result.ours.recovery_seconds if result.ours and result.row.recovery else None
        if result.ours and result.row.recovery and recovery is None:
            result.complaints.append("the row says that a holder dies, and measured no recovery")
        self.ground.revive()
        found = invariants.check(self.ground.rows, self.journal, recovery, bench.recovery_bound, bench.work.requested)
        result.invariants = {name: not complaints for name, complaints in found.items()}
        result.complaints += [f"{name}: {one}" for name, complaints in found.items() for one in complaints[:3]]

    def _clean_up(self, bench: Bench, *, failed: bool) -> None:
        bench.close()
        self.ground.revive()
        self.workers.settle(all_anew=failed)

    def _raw(self, raw: RawOf, result: Result) -> None:
        """A counterpart that fails says why; it is no failure of ours."""
        bench = Bench(
            self.ground, self.workers, row=result.row.number, seed=self.options.seed, quick=self.options.quick
        )
        try:
            with time_limit(result.row.limit_seconds, f"raw Celery on row {result.row.number}"):
                result.raw = raw(bench)
        except (Exception, OutOfTime) as error:
            result.reason = f"raw Celery was not measured: {told(error)}"
        finally:
            bench.close()
            self.ground.revive()


@contextlib.contextmanager
def time_limit(seconds: float, what: str) -> Iterator[None]:
    """Interrupt the block after ``seconds``. Main thread only.

    Raises:
        OutOfTime: it took longer, whether or not it could be interrupted.
    """

    def over(*_: object) -> None:
        raise OutOfTime(f"{what} took longer than {seconds:g} s")

    began = time.monotonic()
    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if time.monotonic() - began > seconds:
        over()


def told(error: BaseException) -> str:
    """An error in words, with the place in the harness where it was raised."""
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "/bench/" in frame.filename]
    place = f" ({Path(ours[-1].filename).name}:{ours[-1].lineno})" if ours else ""
    return f"{type(error).__name__}: {error}{place}"
