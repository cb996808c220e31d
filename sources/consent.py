"""Consent of rows that cannot be used: whoever refused it is heard, whatever else is wrong with the row."""

from __future__ import annotations

import re
from typing import Final

from rl.errors import InvalidRow
from rl.records import Quarantined
from rl.usable import REFUSED
from sources.values import EXCERPT, quarantined, tidy

SOURCE: Final = "consent"
"""The ``source`` of a quarantined row whose ``row`` is the id of a trajectory that nobody lets be learned from."""
MOST_BYTES: Final = 2_000
"""Of an id that an index of Postgres can hold."""
SAYS_NO = re.compile(r'(?<!\\)"\w*consent"\s*:\s*"?(?:false|f|0|no)\b', re.IGNORECASE)
"""In text that cannot be read as JSON: reason enough to keep no words of it."""


def unusable(
    source: str, row: str, error: InvalidRow, text: str | None, *, consent: bool | None, trajectory_id: object
) -> Quarantined:
    """The row that ``error`` was raised for; of one whose ``consent`` is False nothing that it says.

    Where it tells its trajectory, the quarantine names that, so that what is stored of it is erased.
    """
    if consent is False:
        own = tidy(trajectory_id) if isinstance(trajectory_id, str) else ""
        if own and len(own.encode()) <= MOST_BYTES:
            return Quarantined(source=SOURCE, row=own, field="consent", reason=REFUSED)
        return Quarantined(source=source, row=tidy(row)[:EXCERPT], field="consent", reason=REFUSED)
    return quarantined(source, row, error, None if SAYS_NO.search(text or "") else text)
