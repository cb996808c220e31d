"""Messages that no task could be made of: counted, with one example each, instead of being kept."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text

from db.alerts import raise_alert
from db.session import transaction
from rl.records import utc

EXAMPLE_LENGTH = 200
SUBJECT_LENGTH = 100
SUBJECTS = 200
"""At most this many subjects are told apart for one reason: whoever reaches the broker chooses them."""
OTHER = "(others)"


@dataclass(frozen=True)
class Rejected:
    """How many messages were rejected for one reason and subject; moments are ISO 8601."""

    reason: str
    subject: str
    count: int
    example: str
    first_at: str
    last_at: str


COUNT = text("""
    insert into rlfleet.rejections as r (reason, subject, count, example)
    select :reason,
           case when (select count(*) from rlfleet.rejections where reason = :reason) < :subjects
                  or exists (select 1 from rlfleet.rejections where reason = :reason and subject = :subject)
                then :subject else :other end,
           :count, :example
        on conflict (reason, subject) do update
       set count = r.count + excluded.count, example = excluded.example, last_at = now()
""")


def count(reason: str, subject: str, example: str, number: int = 1, patience: float = 5.0) -> None:
    """Add ``number`` messages and raise ``message_rejected`` (once an hour for a reason).

    Waits at most about ``patience`` seconds for the database.

    Raises:
        DatabaseUnavailable: nothing was counted.
    """
    subject, example = _storable(subject, SUBJECT_LENGTH), _storable(example, EXAMPLE_LENGTH)
    with transaction(patience) as session:
        session.execute(
            COUNT,
            {
                "reason": reason,
                "subject": subject,
                "count": number,
                "example": example,
                "subjects": SUBJECTS,
                "other": OTHER,
            },
        )
        detail = {"reason": reason, "subject": subject, "messages": number, "example": example}
        raise_alert(session, "message_rejected", reason, detail)


def listing() -> list[Rejected]:
    """What was rejected, the latest first."""
    with transaction() as session:
        rows = session.execute(
            text("""
                select reason, subject, count, example, first_at, last_at
                  from rlfleet.rejections order by last_at desc, reason, subject
            """)
        ).all()
    return [
        Rejected(reason, subject, int(number), example, utc(first), utc(last))
        for reason, subject, number, example, first, last in rows
    ]


def _storable(words: str, length: int) -> str:
    """At most ``length`` characters of what came from outside, without those that Postgres cannot store."""
    return words[:length].replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
