"""Consent that was refused after something was stored: the refusal is kept, and what is stored goes.

What no training has read goes in the transaction that hears of it. The rest goes by ``sweep``, which also marks what
was made of it and removes files; it waits for a training that is running. Until then no judge sees it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from db import erasure
from db.forgetting import LOCKS
from db.session import transaction
from db.windows import database_now
from rl.errors import DatabaseUnavailable, TransientError

OTHERS = text("""
    select trajectory_id from rlfleet.trajectory_keys
     where trajectory_id = any(:ids) and (line_id <> :line_id or erased_at is not null)
    union select trajectory_id from rlfleet.recordings
           where trajectory_id = any(:ids) and agent_id is not null and line <> :line
    union select trajectory_id from rlfleet.calls where trajectory_id = any(:ids) and line <> :line
""")
REFUSE = text("""
    insert into rlfleet.recordings as r (trajectory_id, line, consent)
    select one, 'main', false from unnest(cast(:ids as text[])) as one
        on conflict (trajectory_id) do update
       set consent = false, line = 'main', agent_id = null, scenario_id = null, "window" = null, archetype = null,
           started_at = null, ended_at = null, status = null, reward = null, details = '{}'
     where r.consent is distinct from false
""")


def refuse(session: Session, line_id: int, line: str, ids: Sequence[str]) -> None:
    """A source says that nobody agrees to these: nothing is stored of them from here on, and what is stored goes.

    Ids that are another line's, or were erased before, are left alone.
    """
    if not ids:
        return
    others = set(session.scalars(OTHERS, {"ids": list(ids), "line_id": line_id, "line": line}))
    mine = sorted(set(ids) - others)
    session.execute(REFUSE, {"ids": mine})
    delete(session, mine)


REFUSED = text("select trajectory_id from rlfleet.recordings where trajectory_id = any(:ids) and consent is false")


def refused(session: Session, ids: Sequence[str]) -> set[str]:
    """Those that nobody agreed to, as their agent said by a start or by a header, whatever a source says."""
    return set(session.scalars(REFUSED, {"ids": list(ids)}))


KEYS = text("select trajectory_id from rlfleet.trajectory_keys where trajectory_id = any(:ids)")
DELETE = (
    text("delete from rlfleet.turns where trajectory_id = any(:ids)"),
    text("""
        with gone as (delete from rlfleet.calls where trajectory_id = any(:ids) returning call_id)
        delete from rlfleet.call_keys k using gone where k.call_id = gone.call_id
    """),
    text("delete from rlfleet.feedback where trajectory_id = any(:ids)"),
)
# As db.erasure wants it: windows, then keys, then who reads them; but nothing that reports is kept waiting.
WINDOWS = text("""
    select id from rlfleet.windows where id = any(array(
        select window_id from rlfleet.trajectory_keys where trajectory_id = any(:ids)))
     order by id for no key update skip locked
""")
LOCK = text("""
    select trajectory_id from rlfleet.trajectory_keys
     where trajectory_id = any(:ids) and window_id = any(:windows) and erased_at is null
     order by trajectory_id for update skip locked
""")
READ = text("select distinct trajectory_id from rlfleet.dataset_trajectories where trajectory_id = any(:ids)")


def delete(session: Session, ids: Sequence[str]) -> set[str]:
    """Delete what is stored of refused trajectories, but for what a training has read or somebody holds.

    Returns those that had been collected and are erased: their key says so, and their recording is gone.
    """
    collected = set(session.scalars(KEYS, {"ids": list(ids)}))
    for statement in DELETE:
        session.execute(statement, {"ids": sorted(set(ids) - collected)})
    windows = session.scalars(WINDOWS, {"ids": sorted(collected)}).all()
    locked = set(session.scalars(LOCK, {"ids": sorted(collected), "windows": windows}))
    free = locked - set(session.scalars(READ, {"ids": sorted(locked)}))
    if free:
        erasure.erase(session, sorted(free), database_now(session))
    return free


PENDING = text("""
    select r.trajectory_id from rlfleet.recordings r join rlfleet.trajectory_keys k using (trajectory_id)
     where r.consent is false and k.erased_at is null and r.trajectory_id > :after order by r.trajectory_id limit :batch
""")


# A call or a step that was under way when the refusal came may have been stored just after.
STRAY = text("""
    select r.trajectory_id from rlfleet.recordings r
     where r.consent is false and r.trajectory_id > :after
       and not exists (select 1 from rlfleet.trajectory_keys k where k.trajectory_id = r.trajectory_id)
       and (exists (select 1 from rlfleet.calls c where c.trajectory_id = r.trajectory_id)
            or exists (select 1 from rlfleet.turns t where t.trajectory_id = r.trajectory_id)
            or exists (select 1 from rlfleet.feedback f where f.trajectory_id = r.trajectory_id))
     order by r.trajectory_id limit :batch
""")


READING = text("""
    select t.trajectory_id, j.id, l.name as line from rlfleet.dataset_trajectories t
      join rlfleet.datasets d on d.id = t.dataset_id
      join rlfleet.jobs j on j.id = d.job_id and j.state = 'running' join rlfleet.lines l on l.id = j.line_id
     where t.trajectory_id = any(:ids) order by j.id
""")
"""Who is training on them at the moment."""
LOCK_TIMEOUT = text("set local lock_timeout = '1s'")


@dataclass
class Swept:
    """How many refused trajectories went, why others did not yet (in words, once each), and whether all were tried."""

    gone: int = 0
    waiting: dict[str, None] = field(default_factory=dict)
    is_over: bool = True


def sweep(remove: Callable[[Sequence[int]], int], until: float) -> Swept:
    """Erase what is stored of refused trajectories, until ``until`` (monotonic seconds).

    ``remove`` takes away the dataset files of these jobs, before each batch is committed.

    Raises:
        DatabaseUnavailable: batches before are done.
    """
    done = Swept()
    for ids in _pages(STRAY, until, done):
        with transaction() as session:
            delete(session, ids)
        done.gone += len(ids)
    for ids in _pages(PENDING, until, done):
        with transaction() as session:
            reading = session.execute(READING, {"ids": ids}).all()
        done.waiting |= {erasure.in_training(one.id, one.line): None for one in reading}
        _erase(sorted(set(ids) - {one.trajectory_id for one in reading}), remove, until, done)
    return done


def _pages(query: TextClause, until: float, done: Swept) -> Iterator[list[str]]:
    """What the query finds, a batch at a time. The first one is given whatever the time is."""
    after = ""
    while True:
        with transaction() as session:
            ids = list(session.scalars(query, {"after": after, "batch": erasure.BATCH}))
        if ids:
            yield ids
        if len(ids) < erasure.BATCH:
            return
        after = ids[-1]
        if time.monotonic() > until:
            done.is_over = False
            return


def _erase(ids: Sequence[str], remove: Callable[[Sequence[int]], int], until: float, done: Swept) -> None:
    """Erase them in one transaction; where somebody is in the way of some, in halves, so that the others go."""
    if not ids:
        return
    try:
        _erase_together(ids, remove)
        done.gone += len(ids)
    except TransientError as error:
        if isinstance(error, DatabaseUnavailable) and not erasure.is_in_the_way(error):
            raise
        if len(ids) == 1:
            done.waiting[str(error)] = None
        elif time.monotonic() > until:
            done.is_over = False
        else:
            for half in (ids[: len(ids) // 2], ids[len(ids) // 2 :]):
                _erase(half, remove, until, done)


def _erase_together(ids: Sequence[str], remove: Callable[[Sequence[int]], int]) -> None:
    with transaction() as session:
        session.execute(LOCK_TIMEOUT)
        for lock in LOCKS:
            session.execute(lock, {"ids": list(ids)}).all()
        at = database_now(session)
        marked = erasure.mark(session, ids, at)
        erasure.erase(session, ids, at)
        if marked.job_ids:
            remove(sorted(marked.job_ids))
