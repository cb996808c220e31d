"""Copies of our rows elsewhere: which are missing, how far each has come, and when it is tried again.

Postgres says what must be there and what is; a place that is away for a week misses nothing and delays nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import text
from sqlalchemy.orm import Session

from db.session import within

Kind = Literal["checkpoint", "training", "version"]

FIRST_SECONDS, LONGEST_SECONDS = 15, 3600
"""The wait after the first failure, which doubles, and the longest one."""

NOTE: Final = text("""
    insert into rlfleet.mirrors as m (target, kind, ref, sent, done_at)
    values (:target, :kind, :ref, :sent, case when :done then now() end)
    on conflict (target, kind, ref) do update
       set sent = excluded.sent, tries = 0, error = null, next_at = now(), done_at = excluded.done_at
""")

# A checkpoint never changes, so one that is there is not missing again; a training or a version may be behind anew.
FAILED: Final = text("""
    insert into rlfleet.mirrors as m (target, kind, ref, tries, error, next_at, failed_at)
    values (:target, :kind, :ref, 1, :error, now() + make_interval(secs => :first), now())
    on conflict (target, kind, ref) do update
       set tries = m.tries + 1, error = excluded.error, done_at = null, failed_at = now(),
           next_at = now() + make_interval(secs => least(:longest, :first * power(2, least(m.tries, 20))))
     where m.done_at is null or m.kind <> 'checkpoint'
""")

BEHIND: Final = """
    select target, count(*) as waiting, max(tries) as tries,
           (array_agg(error order by failed_at desc nulls last))[1] as error,
           extract(epoch from now() - max(failed_at)) as error_seconds
      from rlfleet.mirrors m
     where done_at is null
       and (tries > 0 or options is not null
            or (next_at < now() - interval '1 hour'
                and not exists (select from rlfleet.jobs j
                                 where m.kind = 'training' and j.id = m.ref
                                   and coalesce(j.finished_at, now()) > now() - interval '1 hour')))
     group by target order by target
"""
"""Columns as those of ``Behind``, by target."""


@dataclass(frozen=True)
class Behind:
    """A target that lacks what it was to have: how many copies wait, the last reason, and how many seconds ago it was.

    ``error_seconds`` is None where none was tried yet, of those that somebody asked for or that are due for an hour. A
    training that goes on has what it is to have: it is due when it has a tenth more steps, which may take for hours.
    """

    target: str
    waiting: int
    error: str
    error_seconds: float | None


def note(session: Session, target: str, kind: Kind, ref: int, sent: int = 0, *, done: bool = True) -> None:
    """Write down that ``target`` has ``sent`` of it, or all."""
    session.execute(NOTE, {"target": target, "kind": kind, "ref": ref, "sent": sent, "done": done})


def failed(session: Session, target: str, kind: Kind, ref: int, error: str) -> None:
    """Write down why it could not be copied; it is tried again after a wait that doubles, up to an hour."""
    known = {"target": target, "kind": kind, "ref": ref, "error": error[:500].replace("\0", "\ufffd")}
    session.execute(FAILED, known | {"first": FIRST_SECONDS, "longest": LONGEST_SECONDS})


def behind(session: Session | None = None) -> list[Behind]:
    """The targets that failed, that somebody wants something at, or that nobody tends, and that lack it, by name."""
    with within(session) as own:
        rows = list(own.execute(text(BEHIND)))
    return [_behind(row) for row in rows]


def _behind(row: Any) -> Behind:
    if row.error_seconds is None:
        return Behind(row.target, row.waiting, "not tried yet", None)
    return Behind(row.target, row.waiting, str(row.error), round(float(row.error_seconds), 3))


def forget(session: Session, targets: Sequence[str]) -> None:
    """What was left to copy to targets that nobody wants any more waits no longer."""
    session.execute(
        text("delete from rlfleet.mirrors where target = any(:targets) and done_at is null"), {"targets": list(targets)}
    )
