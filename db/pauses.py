"""The circuit breaker: a kind of job that keeps dying is neither rung nor claimed until a person resumes it.

A kind is paused while it has a row in ``pauses``. ``resumes`` remembers when a person last resumed it, so that the
deaths which paused it do not pause it again.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from db.alerts import record
from db.session import transaction, within
from rl.records import utc


@dataclass(frozen=True)
class Paused:
    """A kind that is paused; ``since`` is ISO 8601."""

    kind: str
    reason: str
    since: str


FAILING = text("""
    select j.kind, count(*), (array_agg(j.error order by j.finished_at desc))[1]
      from rlfleet.jobs j left join rlfleet.resumes r on r.kind = j.kind
     where j.state = 'dead' and j.finished_at > now() - make_interval(mins => :minutes)
       and (r.resumed_at is null or j.finished_at > r.resumed_at)
       and not exists (select 1 from rlfleet.pauses p where p.kind = j.kind)
     group by j.kind having count(*) >= :dead order by j.kind
""")


def pause_failing_kinds(dead: int, minutes: int) -> list[str]:
    """Pause each kind of which ``dead`` jobs died in the last ``minutes`` and since it was resumed; the kinds.

    Raises one alert ``kind_paused`` for each, in the same transaction. Safe in any number of copies.
    """
    paused = []
    with transaction() as session:
        for kind, count, error in session.execute(FAILING, {"dead": dead, "minutes": minutes}).all():
            reason = f"{count} jobs died within {minutes} min; the last: {error or 'no error was recorded'}"[:1000]
            made = session.execute(
                text("""
                    insert into rlfleet.pauses (kind, reason) values (:kind, :reason)
                        on conflict do nothing returning 1
                """),
                {"kind": kind, "reason": reason},
            ).one_or_none()
            if made is not None:
                record(session, "kind_paused", kind, {"kind": kind, "dead": int(count), "reason": reason})
                paused.append(str(kind))
    return paused


def pause(kind: str, reason: str, session: Session | None = None) -> bool:
    """Neither ring nor claim jobs of ``kind`` from now on. False when it was paused already."""
    with within(session) as mine:
        row = mine.execute(
            text(
                "insert into rlfleet.pauses (kind, reason) values (:kind, :reason) on conflict do nothing returning 1"
            ),
            {"kind": kind, "reason": reason},
        ).one_or_none()
    return row is not None


def resume(kind: str, session: Session | None = None) -> bool:
    """Ring and claim jobs of ``kind`` again; only deaths from now on count. False when it was not paused."""
    with within(session) as mine:
        row = mine.execute(
            text("delete from rlfleet.pauses where kind = :kind returning 1"), {"kind": kind}
        ).one_or_none()
        if row is not None:
            mine.execute(
                text("""
                    insert into rlfleet.resumes (kind) values (:kind)
                        on conflict (kind) do update set resumed_at = now()
                """),
                {"kind": kind},
            )
    return row is not None


def paused() -> list[Paused]:
    """The kinds that are paused now, by name."""
    with transaction() as session:
        rows = session.execute(text("select kind, reason, since from rlfleet.pauses order by kind")).all()
    return [Paused(kind, reason, utc(since)) for kind, reason, since in rows]
