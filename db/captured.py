"""What a gateway captures, as text and as rows: calls, failures, refusals of consent, and what a hook refused.

Everything has an id and is stored once, so whoever does not know whether it was stored stores it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import IntEnum
from typing import NamedTuple

from sqlalchemy.exc import DataError, IntegrityError, StatementError
from sqlalchemy.orm import Session

from db import alerts, calls, failures, recordings
from db.call_rows import CallRow
from db.failures import NewFailure
from db.recordings import Start
from db.session import transaction
from rl.errors import DatabaseUnavailable, InvalidInput, InvalidRow
from rl.records import Quarantined

PATIENCE_SECONDS = 30.0


class Kind(IntEnum):
    """What it is. The numbers are those on disk."""

    CALL = 1
    """A call that was answered: the columns of ``CallRow``."""
    FAILURE = 2
    """A call that a version did not answer: the fields of ``NewFailure``."""
    REFUSAL = 3
    """Nobody agreed to a trajectory: its id and the agent's."""
    QUARANTINED = 4
    """What a line's hook does not let be stored: the line, then the fields of ``Quarantined``."""


class Captured(NamedTuple):
    """One record as text, of which the first is its id."""

    kind: Kind
    fields: tuple[str | None, ...]


def of_failure(failure: NewFailure) -> Captured:
    """The failure as text."""
    one = failure
    asked = "asked" if one.asked else ""
    fields = (one.call_id, one.line, one.model, one.reason, one.at.isoformat(), asked, one.unit)
    return Captured(Kind.FAILURE, tuple(field and _text(field) for field in fields))


def of_refusal(trajectory_id: str, agent_id: str | None) -> Captured:
    """That nobody agreed to the trajectory, as text."""
    return Captured(Kind.REFUSAL, (trajectory_id, agent_id))


def of_quarantined(line: str, row: Quarantined) -> Captured:
    """What may not be stored, as text."""
    return Captured(Kind.QUARANTINED, tuple(map(_text, (line, row.source, row.row, row.field, row.reason))))


def _text(said: str) -> str:
    """As Postgres can hold it; engines' words end up here."""
    return said.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def store(batch: Sequence[Captured]) -> list[bool | InvalidRow]:
    """Commit the records together; where one of them cannot be stored, the others without it.

    For each: True when it is new, False when it was there before, or why the database refuses it for itself.

    Raises:
        DatabaseUnavailable: the database is away. Some may be stored.
        Exception: the database refuses all of them alike: it lacks a column or a permission. None is lost by trying
            again.
    """
    outcomes = _halved(batch)
    unexplained = [one for one in outcomes if isinstance(one, Exception) and not isinstance(one, InvalidRow)]
    if unexplained and not any(isinstance(one, bool) for one in outcomes):
        raise unexplained[0]
    return [one if isinstance(one, bool | InvalidRow) else _refused(one) for one in outcomes]


def _halved(batch: Sequence[Captured]) -> list[bool | Exception]:
    try:
        with transaction(PATIENCE_SECONDS) as session:
            return [*_insert(session, batch)]
    except DatabaseUnavailable:
        raise
    except Exception as error:
        if len(batch) == 1:
            return [_refused(error) if _is_its_own(error) else error]
        middle = len(batch) // 2
        return _halved(batch[:middle]) + _halved(batch[middle:])


def _is_its_own(error: Exception) -> bool:
    """Whether the record is to blame, whatever becomes of others."""
    of_driver = isinstance(error, StatementError) and isinstance(error.orig, ValueError)
    return of_driver or isinstance(error, DataError | IntegrityError | InvalidInput | ValueError)


def _refused(error: Exception) -> InvalidRow:
    """Why, without the values, which may be conversations."""
    if isinstance(error, InvalidRow):
        return error
    code = getattr(getattr(error, "orig", None), "pgcode", None)
    said = f"{type(error).__name__} {code or ''}".strip()
    return InvalidRow("record", "<not shown>", f"the database cannot hold it ({said})")


def _insert(session: Session, batch: Sequence[Captured]) -> list[bool]:
    """Refusals first, so that nothing of what they refuse is stored."""
    of = {kind: [one.fields for one in batch if one.kind is kind] for kind in Kind}
    if of[Kind.REFUSAL]:
        recordings.store(session, [Start(str(one[0]), one[1] or "", consent=False) for one in of[Kind.REFUSAL]])
    stored = {
        Kind.REFUSAL: iter([True] * len(of[Kind.REFUSAL])),
        Kind.CALL: iter(calls.insert_rows(session, [CallRow(*one) for one in of[Kind.CALL]])),  # type: ignore[arg-type]
        Kind.FAILURE: iter(failures.insert(session, [_failure(one) for one in of[Kind.FAILURE]])),
        Kind.QUARANTINED: iter([_quarantine(session, one) for one in of[Kind.QUARANTINED]]),
    }
    return [next(stored[one.kind]) for one in batch]


def _failure(fields: Sequence[str | None]) -> NewFailure:
    call_id, line, model, reason, at, asked, unit = fields
    moment = datetime.fromisoformat(str(at))
    return NewFailure(str(call_id), str(line), str(model), str(reason), moment, bool(asked), unit)


def _quarantine(session: Session, fields: Sequence[str | None]) -> bool:
    line, source, row, field, reason = map(str, fields)
    quarantined = Quarantined(source=source, row=row, field=field, reason=reason)
    return recordings.quarantine(session, line, [quarantined]) > 0


def alert(number: int, where: str) -> None:
    """Tell people that ``number`` captured records could not be stored, and in which spool they lie.

    Raises:
        DatabaseUnavailable: nobody was told.
    """
    with transaction(PATIENCE_SECONDS) as session:
        alerts.raise_alert(session, "capture_refused", where, {"records": number, "folder": where})
