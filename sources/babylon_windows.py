"""Which hour a row of a Babylon-style database belongs to, in Python and, on its indexes, in SQL.

``windowId`` decides, in any of the ways that an hour was written; a row without one belongs to the hour that it ended
in. A row with any other text belongs nowhere: it is quarantined where everything is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import product

from db.foreign_conditions import Among, Between, Condition, During, Either, Every, IsNull, Relation
from rl.errors import MalformedWindow
from rl.windows import WindowId, parse

SEPARATORS = ("T", "-", " ")
MINUTES = (":00", "", ":00:00", ":00:00.000")
ZONES = ("", "Z", "+00:00")
SPELLING = re.compile(r"(\d{4}-\d\d-\d\d)[T \-](\d\d)(?::00(?::00(?:\.000)?)?)?(?:Z|\+00:00)?", re.ASCII)
COLUMN, ENDED = "windowId", "endTime"


def spellings(window: WindowId) -> list[str]:
    """The hour as users of such a database write it: ``2025-01-13T14:00``, ``2025-01-13-14`` and the like."""
    day, hour = window.text[:10], window.text[11:13]
    return [day + one + hour + two + three for one, two, three in product(SEPARATORS, MINUTES, ZONES)]


def window_of(text: str) -> WindowId | None:
    """The window that ``text`` spells; None when it is not a whole hour."""
    match = SPELLING.fullmatch(text)
    try:
        return parse(f"{match[1]}T{match[2]}:00") if match else None
    except MalformedWindow:
        return None


def in_window(relation: Relation, window: WindowId) -> Condition | None:
    """The window's rows. None for a round of a run, which no such database holds."""
    if window.hour is None:
        return None
    ended = During(ENDED, window.hour, window.ends_at)
    if COLUMN not in relation.columns:
        return ended
    return Either((Among(COLUMN, spellings(window)), *(Every((one, ended)) for one in _unnamed())))


def unnamed_between(relation: Relation, since: datetime | None, until: datetime | None) -> Condition:
    """Rows without a window's name that ended in hours which overlap the two."""
    margin = timedelta(hours=1)
    ended = During(ENDED, since and since - margin, until and until + margin)
    if COLUMN not in relation.columns:
        return ended
    return Either([Every((one, ended)) for one in _unnamed()])


def _unnamed() -> Iterable[Condition]:
    return IsNull(COLUMN), Among(COLUMN, [""])


def named_between(since: datetime | None, until: datetime | None) -> Condition:
    """Rows whose window may lie between the two; some days more, since texts are ordered by their collation."""
    margin = timedelta(days=2)
    start = (since - margin).strftime("%Y-%m-%d") if since else "0"
    end = (until + margin).strftime("%Y-%m-%d") if until else "9999"
    return Between(COLUMN, start, end)
