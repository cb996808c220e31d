"""The clock that leases, due times and windows go by."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import text

from db.session import transaction


def now(patience: float) -> datetime:
    """What time it is in the database.

    Raises:
        DatabaseUnavailable: it does not answer within ``patience`` seconds.
    """
    with transaction(patience) as session:
        moment: datetime = session.execute(text("select clock_timestamp()")).scalar_one()
    return moment
