"""The fleet at a glance, from the rows."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from db.session import transaction


def lines() -> list[dict[str, Any]]:
    """Each line with its windows by state, its number of versions, and what is stable at which share."""
    with transaction() as session:
        rows = session.execute(
            text("""
                select l.name,
                       coalesce((select jsonb_object_agg(state, n) from (
                           select state, count(*) n from rlfleet.windows w where w.line_id = l.id group by state) c),
                           '{}'::jsonb),
                       (select count(*) from rlfleet.versions v where v.line_id = l.id),
                       v.name, coalesce(r.share, 0)
                  from rlfleet.lines l
                  left join rlfleet.releases r on r.line_id = l.id and r.stage = 'stable' and r.ended_at is null
                  left join rlfleet.versions v on v.id = r.version_id
                 order by l.name
            """)
        ).all()
    return [
        {"line": name, "windows": windows, "versions": versions, "stable": stable, "share": share}
        for name, windows, versions, stable, share in rows
    ]
