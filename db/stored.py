"""Checkpoints and the artifact store: what is to be copied there, what lies there, what nobody needs there any more.

Where something of a checkpoint with a row of its own lies in the store, it has one in ``rlfleet.mirrors`` for the
target ``store`` too: that comes with the checkpoint's own row or before the copy, and goes after the last object.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import mirrors, waits
from rl.checkpoint_files import place_of

TARGET: Final = "store"
KIND: Final = "checkpoint"
GRACE_HOURS: Final = 24
"""What was given up stays in the store for so long, as does what was written there within that time."""
LACKING_SECONDS: Final = 3600


@dataclass(frozen=True)
class Copied:
    """A checkpoint by its row's ``id``. ``sent`` parts of it are there; ``is_due``: it may be tried now."""

    id: int
    uri: str
    sha256: str
    sent: int = 0
    is_due: bool = True


WAITING: Final = text("""
    select c.id, c.uri, c.sha256, coalesce(m.sent, 0) as sent, coalesce(m.next_at <= now(), true) as is_due
      from rlfleet.checkpoints c
      left join rlfleet.mirrors m on m.target = 'store' and m.kind = 'checkpoint' and m.ref = c.id
     where c.removed_at is null and c.kind <> 'remote' and m.done_at is null
     order by case when m.tries > 0 then random() else -1 end, c.id desc
""")


def waiting(session: Session) -> list[Copied]:
    """The checkpoints that the store is to have and has not: the newest first, then those that failed, in any order."""
    return [Copied(row.id, row.uri, row.sha256, row.sent, row.is_due) for row in session.execute(WAITING)]


NEW: Final = text("""
    select c.id, c.sha256, exists (select 1 from rlfleet.checkpoints o
                                    where o.sha256 = c.sha256 and o.removed_at is not null) as is_unsure
      from rlfleet.checkpoints c where c.job_id = :job and c.kind <> 'remote'
""")


def note_new(session: Session, job_id: int, there: Collection[str]) -> None:
    """Write down of a training's new checkpoints that they are to be stored, and by their hashes which are.

    Of bytes that were given up before, none is: whoever takes those out of the store does not know these rows yet.
    """
    for row in session.execute(NEW, {"job": job_id}).all():
        mirrors.note(session, TARGET, KIND, row.id, done=row.sha256 in there and not row.is_unsure)


def note_begun(session: Session, checkpoint_id: int) -> None:
    """Write down that something of the checkpoint may lie in the store soon."""
    session.execute(
        text("""
            insert into rlfleet.mirrors (target, kind, ref) values ('store', 'checkpoint', :ref)
            on conflict (target, kind, ref) do nothing
        """),
        {"ref": checkpoint_id},
    )


DOUBT: Final = text("""
    insert into rlfleet.mirrors as m (target, kind, ref)
    select 'store', 'checkpoint', id from rlfleet.checkpoints
     where sha256 = :sha256 and removed_at is null and kind <> 'remote'
    on conflict (target, kind, ref) do update
       set sent = 0, tries = 0, error = null, next_at = now(), done_at = null where m.done_at is not null
""")


def doubt(session: Session, sha256: str) -> None:
    """What the store has of that checkpoint is damaged or gone: whoever has the folder is to store it again.

    Whoever is sending it goes on where it is.
    """
    session.execute(DOUBT, {"sha256": sha256})


def alert_lacking(session: Session) -> list[int]:
    """Raise ``store_lacks`` for jobs that have waited for the store for an hour, once an hour each; their ids."""
    return waits.alert_put_off(session, "store_lacks", "Store", "^Store(Lacks|Unavailable):", LACKING_SECONDS)


@dataclass(frozen=True)
class Placed:
    """A checkpoint as its row has it: where its folder was, what it rests on, and whether retention gave it up."""

    uri: str
    sha256: str
    base_uri: str
    is_removed: bool


PLACED: Final = text("""
    select uri, sha256, base_uri, removed_at is not null as is_removed from rlfleet.checkpoints
     where uri = :uri or (job_id = :job and right(uri, length(:place)) = :place)
     order by uri = :uri desc, id desc limit 1
""")


def placed(session: Session, uri: str) -> Placed | None:
    """The checkpoint whose folder is called ``uri``, here or where another host has its artifacts; None without one."""
    place = place_of(uri)
    job = int(place.split("/")[1]) if place else None
    row = session.execute(PLACED, {"uri": uri, "job": job, "place": f"/{place}"}).one_or_none()
    return Placed(row.uri, row.sha256, row.base_uri, row.is_removed) if row else None


GIVEN_UP: Final = text("""
    select c.sha256, max(c.id) as id, max(c.uri) as uri from rlfleet.checkpoints c
      join rlfleet.mirrors m on m.target = 'store' and m.kind = 'checkpoint' and m.ref = c.id
     where c.removed_at is not null
       and not exists (select 1 from rlfleet.checkpoints o where o.sha256 = c.sha256 and o.removed_at is null)
       and c.sha256 = coalesce(:sha256, c.sha256)
     group by c.sha256 having max(c.removed_at) < now() - make_interval(hours => :grace)
     order by 1
""")
"""A hash that any row still needs stays, whichever version's it is."""


def given_up(session: Session, sha256: str | None = None) -> list[Copied]:
    """What may lie in the store, and retention gave up of every version long enough ago: all, or that checkpoint."""
    found = session.execute(GIVEN_UP, {"grace": GRACE_HOURS, "sha256": sha256})
    return [Copied(row.id, row.uri, row.sha256) for row in found]


def forget(session: Session, sha256: str) -> None:
    """The store has nothing of that checkpoint any more; whoever began to need it meanwhile is to store it again."""
    session.execute(
        text("""
            delete from rlfleet.mirrors m using rlfleet.checkpoints c
             where m.target = 'store' and m.kind = 'checkpoint' and m.ref = c.id
               and c.sha256 = :sha256 and c.removed_at is not null
        """),
        {"sha256": sha256},
    )
    doubt(session, sha256)


def grace_began(session: Session) -> datetime:
    """What was written to the store since this moment stays for now."""
    found: datetime = session.execute(
        text("select now() - make_interval(hours => :grace)"), {"grace": GRACE_HOURS}
    ).scalar_one()
    return found
