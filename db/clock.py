"""The clock that leases, due times and windows go by."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from sqlalchemy import text

from db.session import PATIENCE_SECONDS, transaction

KEEP_SECONDS = 60.0
"""So long ``lately`` goes on by this machine's monotonic clock before it asks again."""

_asked: tuple[float, datetime] | None = None


def now(patience: float) -> datetime:
    """What time it is in the database.

    Raises:
        DatabaseUnavailable: it does not answer within ``patience`` seconds.
    """
    with transaction(patience) as session:
        moment: datetime = session.execute(text("select clock_timestamp()")).scalar_one()
    return moment


def lately() -> datetime:
    """What time it is in the database, which is asked once a minute: for ages that people read.

    Raises:
        DatabaseUnavailable: it was to be asked and did not answer.
    """
    global _asked  # noqa: PLW0603 - one clock for the process
    asked = _asked
    if asked is None or time.monotonic() - asked[0] > KEEP_SECONDS:
        asked = _asked = (time.monotonic(), now(PATIENCE_SECONDS))
    return asked[1] + timedelta(seconds=time.monotonic() - asked[0])


def forget() -> None:
    """Ask again at the next ``lately``."""
    global _asked  # noqa: PLW0603
    _asked = None
