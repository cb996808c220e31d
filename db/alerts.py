"""Alerts: what a person should hear of, kept until a receiver has taken it.

They are delivered at least once: an alert that is being sent is out of sight for ``HOLD_SECONDS``, and a sender that
is lost meanwhile leaves it to the next one. Its id lets a receiver drop the second copy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from db.session import transaction
from rl.records import utc

HOLD_SECONDS = 120
"""For how long an alert that is being sent is not taken by another sender; longer than any try lasts."""
QUIET_SECONDS = 3600
"""The same alert is not raised twice within this time."""
LONGEST_BACK_OFF_SECONDS = 3600


@dataclass(frozen=True)
class Alert:
    """One alert; ``created_at`` is ISO 8601, and ``error`` says why the last try did not succeed.

    ``taken`` names the channels whose receiver has it: a try goes to the others alone.
    """

    alert_id: int
    name: str
    subject: str
    detail: dict[str, Any]
    created_at: str
    tries: int
    error: str | None
    taken: tuple[str, ...] = ()


def raise_alert(session: Session, name: str, subject: str, detail: Mapping[str, Any]) -> bool:
    """Record the alert, unless one of the same name and subject is less than an hour old. Whether it was recorded."""
    same = {"name": name, "subject": subject}
    # Without the lock two sessions that look at the same moment would both see none.
    session.execute(text("select pg_advisory_xact_lock(hashtextextended('alert ' || :name || :subject, 0))"), same)
    lately = session.execute(
        text("""
            select 1 from rlfleet.alerts where name = :name and subject = :subject
                                           and created_at > now() - make_interval(secs => :quiet) limit 1
        """),
        same | {"quiet": QUIET_SECONDS},
    ).one_or_none()
    if lately is None:
        record(session, name, subject, detail)
    return lately is None


def raise_once(session: Session, name: str, subject: str, detail: Mapping[str, Any]) -> bool:
    """Record the alert, unless one of the same name and subject is there at all. Whether it was recorded."""
    same = {"name": name, "subject": subject}
    if session.execute(KNOWN, same).one_or_none() is None:
        session.execute(text("select pg_advisory_xact_lock(hashtextextended('alert ' || :name || :subject, 0))"), same)
        if session.execute(KNOWN, same).one_or_none() is None:
            record(session, name, subject, detail)
            return True
    return False


KNOWN = text("select 1 from rlfleet.alerts where name = :name and subject = :subject limit 1")


def record(session: Session, name: str, subject: str, detail: Mapping[str, Any]) -> None:
    """Record the alert, however lately the last one like it was: for what cannot happen twice unnoticed."""
    session.execute(
        text("insert into rlfleet.alerts (name, subject, detail) values (:name, :subject, cast(:detail as jsonb))"),
        {"name": name, "subject": subject, "detail": json.dumps(dict(detail))},
    )


def any_due() -> bool:
    """Whether an alert waits to be sent now."""
    with transaction() as session:
        row = session.execute(
            text("select 1 from rlfleet.alerts where sent_at is null and next_at <= now() limit 1")
        ).one_or_none()
    return row is not None


def take_due(limit: int) -> list[Alert]:
    """The oldest alerts to be sent now, no one else's for ``HOLD_SECONDS``. Safe in any number of copies.

    Those that no channel has taken come first: a channel that is away does not hold up the others.
    """
    with transaction() as session:
        rows = session.execute(
            text("""
                update rlfleet.alerts set next_at = now() + make_interval(secs => :hold), tries = tries + 1
                 where id in (select id from rlfleet.alerts where sent_at is null and next_at <= now()
                               order by cardinality(taken), next_at, id for update skip locked limit :limit)
             returning id, name, subject, detail, created_at, tries, error, taken
            """),
            {"hold": HOLD_SECONDS, "limit": limit},
        ).all()
    return sorted((_alert(row) for row in rows), key=lambda alert: alert.alert_id)


def settled(session: Session, name: str, subject: str) -> None:
    """Nobody needs to be told any more: what was not sent yet is over."""
    over = "update rlfleet.alerts set sent_at = now() where name = :name and subject = :subject and sent_at is null"
    session.execute(text(over), {"name": name, "subject": subject})


def took(alert_id: int, channel: str) -> None:
    """The receiver of this channel has it, and is not sent it again."""
    with transaction() as session:
        session.execute(
            text("""
                update rlfleet.alerts set taken = array_append(taken, cast(:channel as text))
                 where id = :id and not cast(:channel as text) = any(taken)
            """),
            {"id": alert_id, "channel": channel},
        )


def sent(alert_id: int) -> None:
    """Every channel's receiver has it."""
    with transaction() as session:
        session.execute(
            text("update rlfleet.alerts set sent_at = now(), error = null where id = :id"),
            {"id": alert_id},
        )


def failed(alert_id: int, error: str) -> None:
    """The receiver did not take it: it is due again after 30 s, 60 s, 120 s, ..., at most an hour."""
    with transaction() as session:
        session.execute(
            text("""
                update rlfleet.alerts
                   set error = :error,
                       next_at = now() + make_interval(secs => least(:longest, 15 * power(2, least(tries, 20))))
                 where id = :id and sent_at is null
            """),
            {"id": alert_id, "error": error[:500], "longest": LONGEST_BACK_OFF_SECONDS},
        )


def waiting(limit: int = 20) -> list[Alert]:
    """Alerts that nobody has taken yet, the newest first."""
    with transaction() as session:
        rows = session.execute(
            text("""
                select id, name, subject, detail, created_at, tries, error, taken
                  from rlfleet.alerts where sent_at is null order by id desc limit :limit
            """),
            {"limit": limit},
        ).all()
    return [_alert(row) for row in rows]


def lately(seconds: float) -> list[Alert]:
    """The newest alert of each name and subject that was raised in the last ``seconds``, sent or not, newest first."""
    with transaction() as session:
        rows = session.execute(
            text("""
                select distinct on (name, subject) id, name, subject, detail, created_at, tries, error, taken
                  from rlfleet.alerts where created_at > now() - make_interval(secs => :seconds)
                 order by name, subject, id desc
            """),
            {"seconds": seconds},
        ).all()
    return sorted((_alert(row) for row in rows), key=lambda alert: -alert.alert_id)


def _alert(row: Any) -> Alert:
    return Alert(int(row[0]), row[1], row[2], row[3], utc(row[4]), int(row[5]), row[6], tuple(row[7]))
