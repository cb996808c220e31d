"""What must hold after every row, read from the database and the journal of the devices alone.

I1  every job has ended, and every request has one training job. A job that comes after one that ended without success
    counts as ended: the fleet lets it wait until a person requeues that one
I2  every effect is there once: one version per succeeded training, with the job's fence; trajectories and scores
    of succeeded collections and scorings exactly once; nothing of jobs that did not succeed
I3  fences of a job only grow, by one on every claim
I4  no attempt beyond the most that are allowed
I5  no two children held one device at the same time
I6  a job's events replay to its row, through transitions that exist
I7  a lost holder is replaced within lease + tick + 15 s, where a row says that a holder dies
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.faults.journal import shared
from db.job_states import TRANSITIONS, State

ENDED = (State.SUCCEEDED, State.FAILED, State.DEAD, State.CANCELLED)

Rows = Callable[[str], list[Any]]


@dataclass(frozen=True)
class Event:
    """One row of a job's history."""

    job_id: int
    came_from: str | None
    state: str
    fence: int
    attempt: int


def check(
    rows: Rows,
    journal: Path,
    recovery_seconds: float | None,
    bound: float,
    requested: Collection[tuple[str, str]] = (),
) -> dict[str, list[str]]:
    """What breaks each invariant, in words; an empty list where it holds.

    ``rows`` carries out SQL; ``requested`` are the lines and windows whose training was asked for.
    """
    histories = _histories(rows)
    return {
        "I1": _ended(rows) + _one_training_each(rows, requested),
        "I2": _effects_once(rows),
        "I3": [complaint for events in histories for complaint in fences_grow(events)],
        "I4": _attempts(rows),
        "I5": [f"{one} and {other} held one device" for one, other in shared(journal)],
        "I6": [complaint for events in histories for complaint in replays(events)] + _last_is_row(rows),
        "I7": recovers(recovery_seconds, bound),
    }


def fences_grow(events: Sequence[Event]) -> list[str]:
    """Where a job's fence did not grow by one on a claim, or changed without one."""
    return [
        f"job {after.job_id}: fence {before.fence} then {after.fence} on {before.state} -> {after.state}"
        for before, after in pairwise(events)
        if after.fence != before.fence + (after.state == State.RUNNING)
    ]


def replays(events: Sequence[Event]) -> list[str]:
    """Where a job's history has a gap, or a transition that does not exist."""
    complaints = []
    state: str | None = None
    for event in events:
        if event.came_from != state:
            complaints.append(f"job {event.job_id}: an event from {event.came_from} after one to {state}")
        if event.state not in TRANSITIONS[State(event.came_from) if event.came_from else None]:
            complaints.append(f"job {event.job_id}: {event.came_from} -> {event.state} does not exist")
        state = event.state
    return complaints


def recovers(seconds: float | None, bound: float) -> list[str]:
    """Whether a lost holder was replaced in time; None where no holder dies."""
    late = seconds is not None and seconds > bound
    return [f"claimed again {seconds:.1f} s after the fault, more than {bound:g} s"] if late else []


def _ended(rows: Rows) -> list[str]:
    found = rows("""
        with recursive held_up (id) as (
            select id from rlfleet.jobs where state in ('failed', 'dead', 'cancelled')
             union select j.id from rlfleet.jobs j join held_up h on h.id = any(j.after) where j.state = 'queued'
        )
        select id, kind, state from rlfleet.jobs where id not in (select id from held_up) order by id
    """)
    return [f"job {row[0]} {row[1]} is {row[2]}" for row in found if row[2] not in ENDED]


def _one_training_each(rows: Rows, requested: Collection[tuple[str, str]]) -> list[str]:
    found = rows("""
        select l.name, w.name, count(*)
          from rlfleet.jobs j join rlfleet.lines l on l.id = j.line_id,
               jsonb_array_elements_text(j.inputs -> 'windows') w (name)
         where j.kind = 'train' group by l.name, w.name
    """)
    jobs = {(row[0], row[1]): int(row[2]) for row in found}
    return [
        f"{jobs.get(one, 0)} training jobs for the request of {one[0]} {one[1]}"
        for one in requested
        if jobs.get(one, 0) != 1
    ]


def _effects_once(rows: Rows) -> list[str]:
    return [str(row[0]) for statement in (VERSIONS, COLLECTED, SCORED, STRAY) for row in rows(statement)]


VERSIONS = """
    select format('job %s train %s has %s versions of fence %s', j.id, j.state, count(v.id), j.fence)
      from rlfleet.jobs j left join rlfleet.versions v on v.job_id = j.id and v.fence = j.fence
     where j.kind = 'train' group by j.id having count(v.id) <> (j.state = 'succeeded')::int
"""
COLLECTED = """
    select format('job %s collect %s: %s trajectories stored, its result says %s',
                  j.id, j.state, count(t.trajectory_id), j.result ->> 'trajectories')
      from rlfleet.jobs j
      join rlfleet.windows w on w.line_id = j.line_id and w.name = j.inputs ->> 'window'
      left join rlfleet.trajectories t on t.window_id = w.id
     where j.kind = 'collect' and not j.config ? 'rollout' group by j.id
    having count(t.trajectory_id) <> coalesce((j.result ->> 'trajectories')::int, 0)
"""
SCORED = """
    select format('job %s score %s: %s score rows on %s trajectories, its result says %s',
                  j.id, j.state, count(s.id), count(distinct s.trajectory_id), j.result ->> 'scored')
      from rlfleet.jobs j
      join rlfleet.windows w on w.line_id = j.line_id and w.name = j.inputs ->> 'window'
      left join rlfleet.trajectories t on t.window_id = w.id
      left join rlfleet.scores s on s.trajectory_id = t.trajectory_id
     where j.kind = 'score' group by j.id
    having count(s.id) <> coalesce((j.result ->> 'scored')::int, 0) or count(s.id) <> count(distinct s.trajectory_id)
"""
STRAY = """
    select format('version %s of job %s fence %s: the job is %s with fence %s', v.name, j.id, v.fence, j.state, j.fence)
      from rlfleet.versions v join rlfleet.jobs j on j.id = v.job_id
     where v.fence <> j.fence or j.state <> 'succeeded'
"""


def _attempts(rows: Rows) -> list[str]:
    found = rows("""
        select format('job %s: attempt %s of at most %s', e.job_id, e.attempt, j.max_attempts)
          from rlfleet.job_events e join rlfleet.jobs j on j.id = e.job_id where e.attempt > j.max_attempts
    """)
    return [str(row[0]) for row in found]


def _histories(rows: Rows) -> list[list[Event]]:
    histories: dict[int, list[Event]] = {}
    for row in rows("select job_id, from_state, to_state, fence, attempt from rlfleet.job_events order by id"):
        histories.setdefault(int(row[0]), []).append(Event(*row))
    return list(histories.values())


def _last_is_row(rows: Rows) -> list[str]:
    found = rows("""
        select format('job %s: its row says %s fence %s attempt %s, its last event %s fence %s attempt %s',
                      j.id, j.state, j.fence, j.attempt, e.to_state, e.fence, e.attempt)
          from rlfleet.jobs j
          left join lateral (select to_state, fence, attempt from rlfleet.job_events
                              where job_id = j.id order by id desc limit 1) e on true
         where (j.state, j.fence, j.attempt) is distinct from (e.to_state, e.fence, e.attempt)
    """)
    return [str(row[0]) for row in found]
