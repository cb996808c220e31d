"""Work for the fleet: lines whose source is a file, requests to train on their hours, and what became of the jobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bench.faults.expect import wait_until
from bench.faults.ground import Ground
from bench.faults.rows import Ours
from db import lines
from db.session import transaction
from rl.config import LineConfig, Optimizer, SftTrain
from rl.records import Call, Message, Trajectory
from rl.windows import hour_of

FIRST_HOUR = datetime(2025, 1, 15, 10, tzinfo=UTC)
TRAJECTORIES = 3
"""How many every window of a line has."""
ENDED = ("succeeded", "failed", "dead", "cancelled")


@dataclass(frozen=True)
class Hours:
    """A line and the windows that its source holds."""

    line: str
    windows: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """A job's row, as far as rows of the matrix look at it."""

    id: int
    kind: str
    line: str
    state: str
    attempt: int
    fence: int
    interruptions: int
    owner: str | None
    progress: dict[str, Any] | None
    error: str | None


JOBS = """
    select j.id, j.kind, l.name, j.state, j.attempt, j.fence, j.interruptions, j.owner, j.progress, j.error
      from rlfleet.jobs j join rlfleet.lines l on l.id = j.line_id
"""


class Work:
    """What one row asks of the fleet."""

    def __init__(self, ground: Ground, row: int) -> None:
        self._ground, self._row = ground, row
        self._asked: list[tuple[str, str]] = []
        self._lines = 0

    def line(self, windows: int = 1, *, steps: int = 6, behaviour: str = "") -> Hours:
        """A line with so many hours in its source. A training has ``steps`` steps.

        ``behaviour`` is what the device's child does with the line's trainings: words of ``bench.faults.child``.
        """
        self._lines += 1
        name = f"row{self._row}-{self._lines}"
        hours = [FIRST_HOUR + timedelta(hours=number) for number in range(windows)]
        file = self._ground.folder("sources") / f"{name}.jsonl"
        rows = [_trajectory(name, hour, number, behaviour) for hour in hours for number in range(TRAJECTORIES)]
        file.write_text("".join(one.model_dump_json() + "\n" for one in rows))
        train = SftTrain(steps=steps, optimizer=Optimizer(learning_rate=0.001))
        config = LineConfig(base_model="no-model", source=f"jsonl://{file}", automatic=False, train=train)
        with transaction() as session:
            lines.put(session, name, config)
        return Hours(name, tuple(hour_of(hour).text for hour in hours))

    def lines(self, count: int, *, steps: int = 6, behaviour: str = "") -> list[Hours]:
        """So many lines of one window each: training is serial within a line."""
        return [self.line(steps=steps, behaviour=behaviour) for _ in range(count)]

    @property
    def requested(self) -> list[tuple[str, str]]:
        """Each line and window that was asked for, once however often it was."""
        return list(dict.fromkeys(self._asked))

    def ask(self, *wanted: Hours) -> None:
        """Send ``train_window`` for every window of these lines, as any service does."""
        from tasks import train_window

        for hours in wanted:
            for window in hours.windows:
                self._asked.append((hours.line, window))
                train_window.delay(window, hours.line)

    def accept(self, *wanted: Hours) -> list[int]:
        """Record the requests without a message; the reconciler rings. Returns the ids of the training jobs."""
        from tasks.requests import request

        ids = []
        for hours in wanted:
            for window in hours.windows:
                self._asked.append((hours.line, window))
                ids.append(request(window, hours.line))
        return ids

    def jobs(self, kind: str | None = None) -> list[Job]:
        """Every job, or those of one kind, oldest first."""
        where = " where j.kind = :kind" if kind else ""
        return [Job(*row) for row in self._ground.rows(f"{JOBS}{where} order by j.id", kind=kind)]

    def of(self, hours: Hours, kind: str = "train") -> list[Job]:
        """The jobs of one kind on that line, oldest first."""
        return [job for job in self.jobs(kind) if job.line == hours.line]

    def wait_job(
        self, hours: Hours, holds: Callable[[Job], object], seconds: float, what: str, kind: str = "train"
    ) -> Job:
        """The line's first job of that kind for which ``holds`` is true."""

        def found() -> Job | None:
            return next((job for job in self.of(hours, kind) if holds(job)), None)

        return wait_until(found, seconds, f"{kind} of {hours.line} {what}")

    def in_training(self, hours: Hours, seconds: float = 30.0) -> Job:
        """The line's training, once it has made a step that its row shows."""

        def moves(job: Job) -> bool:
            return job.state == "running" and bool(job.progress) and int((job.progress or {}).get("step", 0)) > 0

        return self.wait_job(hours, moves, seconds, "in mid-training")

    def wait_all(self, seconds: float, what: str = "") -> list[Job]:
        """Every training that was asked for, once all jobs have ended."""

        def all_ended() -> bool:
            jobs = self.jobs()
            trained = sum(job.kind == "train" for job in jobs)
            return trained >= len(self.requested) and all(job.state in ENDED for job in jobs)

        try:
            wait_until(all_ended, seconds, f"the end of all jobs {what}".rstrip())
        except TimeoutError as error:
            raise TimeoutError(f"{error}; {self._left()}") from None
        return self.jobs("train")

    def _left(self) -> str:
        """What has not ended, in words."""
        jobs = self.jobs()
        trained = {job.line for job in jobs if job.kind == "train"}
        missing = [f"no training of {line} {window}" for line, window in self._asked if line not in trained]
        return ", ".join([*missing, *(f"job {j.id} {j.kind} is {j.state}" for j in jobs if j.state not in ENDED)][:5])

    def effects(self) -> int:
        """How many versions were committed: the effects of trainings."""
        return int(self._ground.one("select count(*) from rlfleet.versions")[0])

    def recovery(self, job_id: int, since: datetime, seconds: float = 60.0) -> float:
        """Seconds from ``since`` to the job's next claim, both on the database's clock; waits for that claim.

        ``seconds`` is more than any bound, so that a claim which comes late is told as late.
        """
        query = "select min(at) from rlfleet.job_events where job_id = :id and to_state = 'running' and at > :since"

        def claimed() -> datetime | None:
            at: datetime | None = self._ground.one(query, id=job_id, since=since)[0]
            return at

        return (wait_until(claimed, seconds, f"the next claim of job {job_id}") - since).total_seconds()

    def reasons(self, job_id: int) -> list[str]:
        """What the job's events give as reasons, oldest first."""
        query = "select reason from rlfleet.job_events where job_id = :id and reason is not null order by id"
        return [str(row[0]) for row in self._ground.rows(query, id=job_id)]

    def deliveries(self, job_id: int) -> dict[str, int]:
        """How many messages about the job reached a worker, by what they led to."""
        query = "select outcome, count(*) from rlfleet.deliveries where job_id = :id group by outcome"
        return {str(row[0]): int(row[1]) for row in self._ground.rows(query, id=job_id)}

    def ours(self, recovery_seconds: float | None = None, **notes: object) -> Ours:
        """The outcome of a row, counted in trainings: jobs that were asked for, and versions that there are."""
        return Ours(len(self.jobs("train")), self.effects(), recovery_seconds, notes)


def _trajectory(line: str, hour: datetime, number: int, behaviour: str) -> Trajectory:
    key = f"{line}/{hour:%H}/{number}"
    call = Call(
        call_id=f"{key}/0",
        turn=0,
        model="another-model",
        messages=[Message(role="user", content="red ball ahead")],
        response=Message(role="assistant", content="forward"),
    )
    moment = hour + timedelta(minutes=number)
    return Trajectory(
        trajectory_id=key,
        scenario_id=behaviour or "plain",
        agent_id="agent",
        started_at=moment,
        ended_at=moment,
        reward=float(number),
        calls=[call],
    )
