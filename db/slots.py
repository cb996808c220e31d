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


def age_seconds(name: str) -> float | None:
    """How long ago the newest tick of ``name`` was taken; None when none was within the days that slots are kept."""
    with transaction() as session:
        row = session.execute(
            text("""
                select extract(epoch from now() - taken_at) from rlfleet.schedule_slots
                 where name = :name order by slot_at desc limit 1
            """),
            {"name": name},
        ).one_or_none()
    return None if row is None else float(row[0])


def is_missed(name: str, period_seconds: float, due_seconds: float) -> bool:
    """Whether the present tick of ``name``, due so long after its period's begin, is due and nobody took it.

    A fleet that took its first slot after the tick was due has missed nothing: it was not there.
    """
    with transaction() as session:
        row = session.execute(
            text("""
                with tick as (select to_timestamp(floor(extract(epoch from now()) / :period) * :period) as slot_at)
                select slot_at + make_interval(secs => :due) <= now()
                   and not exists (select 1 from rlfleet.schedule_slots s
                                    where s.name = :name and s.slot_at = tick.slot_at)
                   and exists (select 1 from rlfleet.schedule_slots s
                                where s.taken_at < tick.slot_at + make_interval(secs => :due))
                  from tick
            """),
            {"name": name, "period": period_seconds, "due": due_seconds},
        ).one()
    return bool(row[0])
