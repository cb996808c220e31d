"""Slots of the schedule: what makes two beats as harmless as one."""

from __future__ import annotations

from sqlalchemy import text

from db.session import transaction


def take_slot(name: str, period_seconds: float) -> bool:
    """Whether this process is the first to take the present tick of schedule entry ``name``."""
    with transaction() as session:
        row = session.execute(
            text("""
                insert into rlfleet.schedule_slots (name, slot_at)
                values (:name, to_timestamp(floor(extract(epoch from now()) / :period) * :period))
                on conflict do nothing returning 1
            """),
            {"name": name, "period": period_seconds},
        ).one_or_none()
    return row is not None
