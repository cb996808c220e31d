"""Windows as people page through them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from db.lineage import WINDOWS
from rl.records import utc

PAGE = text("""
    select id from rlfleet.windows
     where line_id = :line_id and (cast(:state as text) is null or state = :state)
       and (cast(:before as bigint) is null or id < :before)
     order by id desc limit :limit
""")
ROWS = text(WINDOWS.format("w.id = any(:ids)"))


def listing(
    session: Session, line_id: int, limit: int = 100, before: int | None = None, state: str | None = None
) -> list[dict[str, Any]]:
    """The line's windows as ``db.lineage.window_rows`` has them, the newest first; ``before`` is an id.

    Moments are ISO 8601.
    """
    ids = list(session.scalars(PAGE, {"line_id": line_id, "limit": limit, "before": before, "state": state}))
    rows = session.execute(ROWS, {"ids": ids}).mappings() if ids else ()
    found = [{key: utc(one) if isinstance(one, datetime) else one for key, one in row.items()} for row in rows]
    return sorted(found, key=lambda row: -row["id"])
