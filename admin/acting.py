"""What changes something leaves a row in the audit, also when it is refused or fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from admin.access import Caller
from admin.errors import Refused, refused_of
from db import audit
from db.session import transaction

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

SERVER_FAILED = 500


@contextmanager
def acting(caller: Caller, action: str, subject: object, **detail: object) -> Iterator[Session]:
    """The block does ``action`` to ``subject`` in ``caller``'s name, in one transaction with the row that says so.

    What is to follow once it is committed, such as ringing, belongs after the block, and is no reason to answer with
    an error: ``tasks.ring`` has what rings now or lets the reconciler ring later.

    Raises:
        Refused: what the block raised, as callers get it.
    """
    try:
        with transaction() as session:
            yield session
            _note(session, caller, action, subject, "done", detail)
    except Exception as error:
        refused = refused_of(error)
        failed = refused.status_code >= SERVER_FAILED
        with transaction() as session:
            outcome: audit.Outcome = "failed" if failed else "refused"
            why = {"error": refused.detail, "remedy": refused.remedy}
            _note(session, caller, action, subject, outcome, detail | why)
        if isinstance(error, Refused) or not failed:
            raise refused from error
        raise


def _note(
    session: Session, caller: Caller, action: str, subject: object, outcome: audit.Outcome, detail: dict[str, object]
) -> None:
    audit.note(
        session,
        caller.actor,
        action,
        str(subject),
        outcome,
        detail={name: value for name, value in detail.items() if value is not None},
        token_id=caller.holder.token_id,
        address=caller.address,
    )
