"""What changes something leaves a row in the audit, also when it is refused or fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from admin.access import Caller
from admin.errors import Refused, refused_of
from db import audit
from db.session import transaction

SERVER_FAILED = 500


@contextmanager
def acting(caller: Caller, action: str, subject: object, **detail: object) -> Iterator[None]:
    """The block does ``action`` to ``subject`` in ``caller``'s name.

    Raises:
        Refused: what the block raised, as callers get it.
    """
    try:
        yield
    except Exception as error:
        refused = refused_of(error)
        failed = refused.status_code >= SERVER_FAILED
        _note(caller, action, subject, "failed" if failed else "refused", detail | {"error": refused.detail})
        if isinstance(error, Refused) or not failed:
            raise refused from error
        raise
    _note(caller, action, subject, "done", detail)


def _note(caller: Caller, action: str, subject: object, outcome: audit.Outcome, detail: dict[str, object]) -> None:
    with transaction() as session:
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
