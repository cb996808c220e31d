"""Which workers there are: each says so from its event loop, so a row that ages is a worker that hangs or is gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import text

from db.alerts import raise_alert
from db.ready import READY
from db.session import transaction
from rl.records import utc

PRESENT_SECONDS = 60
"""A worker counts towards its queues' capacity when it was seen within this time."""
SILENT_SECONDS = 90
"""A worker that was not seen for this long and did not say good-bye raises an alert."""
FORGET_SECONDS = 3600
"""And is no longer expected back after this."""
BEAT_SECONDS = 300
"""No beat was heard for this long, though somebody looked around in most minutes of it: that raises an alert."""


@dataclass(frozen=True)
class Present:
    """A worker as it last announced itself; ``started_at`` is ISO 8601."""

    name: str
    queues: list[str]
    concurrency: int
    device: str
    pid: int
    started_at: str
    silent_seconds: float


def announce(name: str, queues: Sequence[str], concurrency: int, device: str, pid: int, patience: float = 5.0) -> None:
    """The worker ``name`` is there now. Waits at most about ``patience`` seconds for the database.

    Raises:
        DatabaseUnavailable: nothing was written.
    """
    with transaction(patience) as session:
        session.execute(
            text("""
                insert into rlfleet.workers as w (name, queues, concurrency, device, pid)
                values (:name, cast(:queues as text[]), :concurrency, :device, :pid)
                    on conflict (name) do update
                   set queues = excluded.queues, concurrency = excluded.concurrency, device = excluded.device,
                       started_at = case when w.pid = excluded.pid then w.started_at else now() end,
                       pid = excluded.pid, seen_at = now()
            """),
            {"name": name, "queues": list(queues), "concurrency": concurrency, "device": device, "pid": pid},
        )


def remove(name: str, pid: int, patience: float = 5.0) -> None:
    """The worker ``name`` goes away on purpose. A successor of the same name, with another ``pid``, stays.

    Raises:
        DatabaseUnavailable: nothing was written; the row ages, and raises an alert.
    """
    with transaction(patience) as session:
        session.execute(
            text("delete from rlfleet.workers where name = :name and pid = :pid"), {"name": name, "pid": pid}
        )


def capacity() -> dict[str, int]:
    """How many tasks at once the workers that are there do for each queue; a queue without workers is left out."""
    with transaction() as session:
        rows = session.execute(
            text("""
                select queue, sum(concurrency) from rlfleet.workers, unnest(queues) queue
                 where seen_at > now() - make_interval(secs => :present) group by queue
            """),
            {"present": PRESENT_SECONDS},
        ).all()
    return {str(queue): int(total) for queue, total in rows}


def listing() -> list[Present]:
    """Every worker that is there or was and did not say good-bye, by name."""
    with transaction() as session:
        rows = session.execute(
            text("""
                select name, queues, concurrency, device, pid, started_at,
                       round(extract(epoch from now() - seen_at), 1) from rlfleet.workers order by name
            """)
        ).all()
    return [
        Present(name, queues, int(concurrency), device, int(pid), utc(started), float(silent))
        for name, queues, concurrency, device, pid, started, silent in rows
    ]


def alert_silent() -> list[str]:
    """Raise ``worker_silent`` for workers that fell silent, and forget those silent for an hour; the names raised."""
    with transaction() as session:
        rows = session.execute(
            text("""
                select name, queues, device, round(extract(epoch from now() - seen_at)) from rlfleet.workers
                 where seen_at < now() - make_interval(secs => :silent) order by name
            """),
            {"silent": SILENT_SECONDS},
        ).all()
        raised = [
            str(name)
            for name, queues, device, seconds in rows
            if raise_alert(
                session,
                "worker_silent",
                name,
                {"worker": name, "queues": queues, "device": device, "silent_seconds": int(seconds)},
            )
        ]
        session.execute(
            text("delete from rlfleet.workers where seen_at < now() - make_interval(secs => :forget)"),
            {"forget": FORGET_SECONDS},
        )
    return raised


BEAT = text("""
    select count(*) filter (where name = :looks) >= :most and count(*) filter (where name = :entry) = 0
      from rlfleet.schedule_slots
     where name in (:entry, :looks) and slot_at > now() - make_interval(secs => :beat)
""")


def is_beat_silent(entry: str, looks: str, look_seconds: float) -> bool:
    """Whether no slot of ``entry``, which only beat sends, was taken lately.

    It is not before somebody looked around for as long: the slots ``looks``, one each ``look_seconds``, say so.
    """
    most = int(BEAT_SECONDS // look_seconds) - 1
    values = {"entry": entry, "looks": looks, "most": most, "beat": BEAT_SECONDS}
    with transaction() as session:
        return bool(session.execute(BEAT, values).one()[0])


def alert_silent_beat(entry: str, looks: str, look_seconds: float, capacities: Mapping[str, int]) -> bool:
    """Raise ``beat_silent`` when no beat was heard lately (``is_beat_silent``); whether it was raised.

    Nothing is raised without workers.
    """
    if not capacities or not is_beat_silent(entry, looks, look_seconds):
        return False
    with transaction() as session:
        return bool(raise_alert(session, "beat_silent", "beat", {"entry": entry, "silent_seconds": BEAT_SECONDS}))


OLD_QUEUES = text(f"""
    with ready as ({READY})
    select queue, count(*), round(extract(epoch from now() - min(due_at)))
      from ready group by queue having min(due_at) < now() - make_interval(secs => :seconds) order by queue
""")  # noqa: S608 (of a constant)


def alert_old_queues(seconds: float, capacities: Mapping[str, int]) -> list[str]:
    """Raise ``queue_old`` for queues in which a due job waits longer than ``seconds``; the queues raised.

    The alert says for how many tasks at once the queue has workers: with 0 nobody serves it, else it is a backlog.
    """
    raised = []
    with transaction() as session:
        for queue, jobs, oldest in session.execute(OLD_QUEUES, {"seconds": seconds}).all():
            served = capacities.get(queue, 0)
            detail = {"queue": queue, "due": int(jobs), "oldest_seconds": int(oldest), "capacity": served}
            if raise_alert(session, "queue_old", queue, detail):
                raised.append(str(queue))
    return raised
