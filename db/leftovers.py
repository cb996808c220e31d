"""What retention removes beside collected trajectories: what no window collected, and texts that no window has."""

from __future__ import annotations

import time
from collections import Counter
from datetime import datetime
from typing import Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import erasure
from db.session import transaction

PATIENCE_SECONDS: Final = 240.0
"""Calls have no index by line: those of every partition are read."""

CUTOFFS = text("""
    select l.name, now() - make_interval(days => (l.config -> 'retention' ->> 'days')::int) as cutoff
      from rlfleet.lines l
     where l.config -> 'retention' ->> 'days' is not null and not exists (
           select 1 from rlfleet.jobs j
             join rlfleet.windows w on w.line_id = j.line_id and w.name = j.inputs ->> 'window'
            where j.line_id = l.id and j.kind = 'collect' and j.state in ('queued', 'running')
              and w.ends_at < now() - make_interval(days => (l.config -> 'retention' ->> 'days')::int))
     order by l.id
""")
"""A line whose hours of that age are being collected is left for the next day."""
UNHEARD = """
    not exists (select 1 from rlfleet.trajectory_keys k where k.trajectory_id = one.trajectory_id)
    and not exists (select 1 from rlfleet.calls c where c.trajectory_id = one.trajectory_id and c.at >= :cutoff)
    and not exists (select 1 from rlfleet.turns t where t.trajectory_id = one.trajectory_id and t.at >= :cutoff)
    and not exists (select 1 from rlfleet.recordings r
                     where r.trajectory_id = one.trajectory_id and r.created_at >= :cutoff)
"""
FIND: Final = (
    text(f"""
        select one.trajectory_id from rlfleet.recordings one
         where one.line = :line and one.created_at < :cutoff and one.consent is not false
           and one.trajectory_id > :after and {UNHEARD} order by one.trajectory_id limit :batch
    """),  # noqa: S608 (of a constant)
    text(f"""
        select distinct one.trajectory_id from rlfleet.calls one
         where one.line = :line and one.at < :cutoff and one.trajectory_id > :after and {UNHEARD}
         order by one.trajectory_id limit :batch
    """),  # noqa: S608
)
LOCK = text("select 1 from rlfleet.recordings where trajectory_id = any(:ids) order by trajectory_id for update")
STILL = text(f"select trajectory_id from unnest(cast(:ids as text[])) one (trajectory_id) where {UNHEARD}")  # noqa: S608
HEADS = text("delete from rlfleet.recordings where trajectory_id = any(:ids) and consent is not false")


def uncollected(counts: Counter[str], until: float) -> bool:
    """Remove what no window collected and of which nothing was heard for the line's days. False when time is up."""
    with transaction() as session:
        lines = session.execute(CUTOFFS).all()
    for line in lines:
        for query in FIND:
            after: str | None = ""
            while after is not None:
                if time.monotonic() > until:
                    return False
                with transaction(PATIENCE_SECONDS) as session:
                    values = {"line": line.name, "cutoff": line.cutoff, "after": after, "batch": erasure.BATCH}
                    found = list(session.scalars(query, values))
                    counts.update(_remove(session, found, line.cutoff) if found else {})
                after = found[-1] if found else None
    return True


def _remove(session: Session, found: list[str], cutoff: datetime) -> Counter[str]:
    session.execute(LOCK, {"ids": found}).all()
    ids = list(session.scalars(STILL, {"ids": found, "cutoff": cutoff}))
    counts = erasure.erase(session, ids, cutoff)
    counts["recordings"] += session.connection().execute(HEADS, {"ids": ids}).rowcount
    return counts


EVERYWHERE = """
    now() - make_interval(days => (
        select case when bool_and(config -> 'retention' ->> 'days' is not null)
                    then max((config -> 'retention' ->> 'days')::int) end from rlfleet.lines))
"""
"""The moment before which no line keeps anything; null while one of them keeps all."""
OLD: Final = {
    "excerpts": text("""
        update rlfleet.quarantine set excerpt = '' where id = any(array(
            select q.id from rlfleet.quarantine q join rlfleet.lines l on l.id = q.line_id
             where q.excerpt <> ''
               and q.created_at < now() - make_interval(days => (l.config -> 'retention' ->> 'days')::int)
             limit :batch))
    """),
    "judgements": text(f"""
        delete from rlfleet.judgements where request_sha256 = any(array(
            select request_sha256 from rlfleet.judgements where created_at < {EVERYWHERE} limit :batch))
    """),  # noqa: S608 (of a constant)
    "feedback": text(f"""
        delete from rlfleet.feedback where id = any(array(
            select f.id from rlfleet.feedback f
             where f.created_at < {EVERYWHERE}
               and not exists (select 1 from rlfleet.trajectory_keys k
                                where k.trajectory_id = f.trajectory_id and k.erased_at is null)
               and not exists (select 1 from rlfleet.call_keys c where c.call_id = f.call_id) limit :batch))
    """),  # noqa: S608
}


def texts(counts: Counter[str], until: float) -> bool:
    """Empty old excerpts; remove judgements, and feedback on nothing that is stored, that no line keeps any more."""
    for name, statement in OLD.items():
        removed = erasure.BATCH
        while removed == erasure.BATCH:
            if time.monotonic() > until:
                return False
            with transaction() as session:
                removed = session.connection().execute(statement, {"batch": erasure.BATCH}).rowcount
            counts[name] += removed
    return True
