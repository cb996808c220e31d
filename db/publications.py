"""Versions that somebody wants on the Hugging Face Hub as soon as it answers: rows of ``mirrors`` with their options.

Of one repository they are published in the order in which they were asked for, so that its newest commit is the last.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from db import alerts
from db.mirrors import FIRST_SECONDS, LONGEST_SECONDS

PREFIX: Final = "hub:"
"""Before a repository, in the name of its target."""
REFUSED: Final = "publication_refused"
"""The alert of one that no further try can bring there."""

ASK: Final = text("""
    insert into rlfleet.mirrors as m (target, kind, ref, options)
    values (:target, 'version', :ref,
            cast(:options as jsonb) || jsonb_build_object('asked', extract(epoch from clock_timestamp())))
    on conflict (target, kind, ref) do update
       set options = excluded.options, tries = 0, error = null, failed_at = null, next_at = now(), done_at = null
""")
DUE: Final = text("""
    select m.target, m.ref, m.options, m.options ->> 'asked' as asked, v.name, l.name as line, c.uri, c.kind,
           c.base_uri, c.removed_at is not null as is_gone
      from rlfleet.mirrors m
      join rlfleet.versions v on v.id = m.ref
      join rlfleet.lines l on l.id = v.line_id
      join rlfleet.checkpoints c on c.id = v.checkpoint_id
     where m.options is not null and m.done_at is null and m.next_at <= now()
       and not exists (select 1 from rlfleet.mirrors e
                        where e.target = m.target and e.done_at is null
                          and (e.options ->> 'asked')::float8 < (m.options ->> 'asked')::float8)
     order by (m.options ->> 'asked')::float8
""")
# Nothing is said of a row that was asked for again meanwhile, is there by now, or was given up.
SAME: Final = (
    "target = :target and kind = 'version' and ref = :ref and done_at is null and options ->> 'asked' = :asked"
)
DONE: Final = text(f"""
    update rlfleet.mirrors
       set done_at = now(), tries = 0, error = null, options = options || jsonb_build_object('revision', :revision)
     where {SAME}
""")  # noqa: S608 (of a constant)
FAILED: Final = text(f"""
    update rlfleet.mirrors
       set tries = tries + 1, error = :error, failed_at = now(),
           next_at = now() + make_interval(secs => least(:longest, :first * power(2, least(tries, 20))))
     where {SAME}
""")  # noqa: S608 (of a constant)
GONE: Final = text(f"delete from rlfleet.mirrors where {SAME} returning 1")  # noqa: S608 (of a constant)
WAITS: Final = text("""
    select 1
      from rlfleet.mirrors m
      join rlfleet.versions v on v.id = m.ref
     where v.name = :version and m.target = :target and m.done_at is null and m.options ->> 'asked' = :asked
""")
CANCEL: Final = text("""
    delete from rlfleet.mirrors m using rlfleet.versions v
     where v.id = m.ref and v.name = :version and m.target = :target and m.options is not null and m.done_at is null
    returning 1
""")


@dataclass(frozen=True)
class Publication:
    """A version that is to be in ``repository``. ``asked`` is when it was asked for.

    ``needs`` are the folders that publishing it reads: its checkpoint, and the base that an adapter is merged into;
    none where retention removed the checkpoint, since any host can refuse that.
    ``options`` has ``private``, ``merged``, ``any`` and ``base``, as ``rlfleet publish`` has them.
    """

    version_id: int
    version: str
    line: str
    repository: str
    needs: tuple[str, ...]
    options: dict[str, Any]
    asked: str

    @property
    def key(self) -> dict[str, Any]:
        """What its row is known by."""
        return {"target": f"{PREFIX}{self.repository}", "ref": self.version_id, "asked": self.asked}


def ask(session: Session, version_id: int, repository: str, options: dict[str, Any]) -> None:
    """Have the version published there; what was asked of it for that repository before counts no more."""
    values = {"target": f"{PREFIX}{repository}", "ref": version_id, "options": json.dumps(options)}
    session.execute(ASK, values)


def cancel(session: Session, version: str, repository: str) -> bool:
    """Have it published there no more. Whether it waited for that."""
    values = {"target": f"{PREFIX}{repository}", "version": version}
    return session.execute(CANCEL, values).one_or_none() is not None


def waits(session: Session, version: str, repository: str, asked: str) -> bool:
    """Whether what was asked for at that time is still to be done."""
    values = {"target": f"{PREFIX}{repository}", "version": version, "asked": asked}
    return session.execute(WAITS, values).one_or_none() is not None


def due(session: Session) -> list[Publication]:
    """Those that may be tried now, one for each repository, in the order in which they were asked for."""
    return [
        Publication(
            version_id=row.ref,
            version=row.name,
            line=row.line,
            repository=row.target.removeprefix(PREFIX),
            needs=_needs(row),
            options=dict(row.options),
            asked=row.asked,
        )
        for row in session.execute(DUE)
    ]


def _needs(row: Row[Any]) -> tuple[str, ...]:
    if row.is_gone:
        return ()
    return (row.uri, row.base_uri) if row.kind == "adapter" and row.options["merged"] else (row.uri,)


def done(session: Session, version_id: int, repository: str, asked: str, revision: str) -> None:
    """The Hub has what was asked for at that time, as that commit."""
    values = {"target": f"{PREFIX}{repository}", "ref": version_id, "asked": asked, "revision": revision}
    session.execute(DONE, values)


def failed(session: Session, one: Publication, error: str) -> None:
    """Write down why it is not there; it is tried again after a wait that doubles, up to an hour."""
    values = {"error": _short(error), "first": FIRST_SECONDS, "longest": LONGEST_SECONDS}
    session.execute(FAILED, one.key | values)


def refused(session: Session, one: Publication, error: str) -> None:
    """Give it up: what was asked for cannot be. An alert says why."""
    if session.execute(GONE, one.key).one_or_none() is not None:
        detail = {"version": one.version, "repository": one.repository, "error": _short(error)}
        alerts.record(session, REFUSED, one.version, detail)


def _short(error: str) -> str:
    return error[:500].replace("\0", "\ufffd")
