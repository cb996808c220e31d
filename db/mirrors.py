"""Copies of our rows elsewhere: which are missing, how far each has come, and when it is tried again.

Postgres says what must be there and what is; a place that is away for a week misses nothing and delays nothing.
"""

from __future__ import annotations

from typing import Final, Literal

from sqlalchemy import text
from sqlalchemy.orm import Session

Kind = Literal["checkpoint", "training", "version"]

FIRST_SECONDS, LONGEST_SECONDS = 15, 3600
"""The wait after the first failure, which doubles, and the longest one."""

NOTE: Final = text("""
    insert into rlfleet.mirrors as m (target, kind, ref, sent, done_at)
    values (:target, :kind, :ref, :sent, case when :done then now() end)
    on conflict (target, kind, ref) do update
       set sent = excluded.sent, tries = 0, error = null, next_at = now(), done_at = excluded.done_at
""")

FAILED: Final = text("""
    insert into rlfleet.mirrors as m (target, kind, ref, tries, error, next_at)
    values (:target, :kind, :ref, 1, :error, now() + make_interval(secs => :first))
    on conflict (target, kind, ref) do update
       set tries = m.tries + 1, error = excluded.error,
           next_at = now() + make_interval(secs => least(:longest, :first * power(2, least(m.tries, 20))))
     where m.done_at is null
""")

BEHIND: Final = text("""
    select target, count(*) as waiting, max(tries) as tries, (array_agg(error order by tries desc))[1] as error
      from rlfleet.mirrors where done_at is null and tries > 0 group by target order by target
""")


def note(session: Session, target: str, kind: Kind, ref: int, sent: int = 0, *, done: bool = True) -> None:
    """Write down that ``target`` has ``sent`` of it, or all."""
    session.execute(NOTE, {"target": target, "kind": kind, "ref": ref, "sent": sent, "done": done})


def failed(session: Session, target: str, kind: Kind, ref: int, error: str) -> None:
    """Write down why it could not be copied; it is tried again after a wait that doubles, up to an hour."""
    known = {"target": target, "kind": kind, "ref": ref, "error": error[:500].replace("\0", "\ufffd")}
    session.execute(FAILED, known | {"first": FIRST_SECONDS, "longest": LONGEST_SECONDS})


def behind(session: Session) -> dict[str, tuple[int, str]]:
    """Of each target that failed lately, how many copies wait there and the last reason."""
    return {row.target: (row.waiting, str(row.error)) for row in session.execute(BEHIND)}
