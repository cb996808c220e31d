"""The fleet at a glance, from the rows."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from db.session import transaction

COLUMNS = (
    "line",
    "windows",
    "versions",
    "stable",
    "share",
    "canary",
    "canary_share",
    "killed",
    "pinned",
)


def lines() -> list[dict[str, Any]]:
    """Each line with its windows by state, its number of versions, what is stable and what a canary, at which share.

    ``killed`` and ``pinned`` are what a person said about its traffic.
    """
    with transaction() as session:
        rows = session.execute(
            text("""
                select l.name,
                       coalesce((select jsonb_object_agg(state, n) from (
                           select state, count(*) n from rlfleet.windows w where w.line_id = l.id group by state) c),
                           '{}'::jsonb),
                       (select count(*) from rlfleet.versions v where v.line_id = l.id),
                       v.name, coalesce(r.share, 0), c.name, coalesce(o.share, 0), coalesce(s.killed, false), p.name
                  from rlfleet.lines l
                  left join rlfleet.releases r on r.line_id = l.id and r.stage = 'stable' and r.ended_at is null
                  left join rlfleet.versions v on v.id = r.version_id
                  left join rlfleet.releases o on o.line_id = l.id and o.stage = 'canary' and o.ended_at is null
                  left join rlfleet.versions c on c.id = o.version_id
                  left join rlfleet.controls s on s.line_id = l.id
                  left join rlfleet.versions p on p.id = s.pinned_id
                 order by l.name
            """)
        ).all()
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows]
