"""Where rows lie that come for ever: partitions of one UTC week each, made before the first row that needs them.

A week begins on Monday, as ISO 8601 and ``date_trunc('week', ...)`` have it. Postgres prunes the others from every
statement that bounds ``at`` by a week, and what is old goes by dropping a table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, text

from db.session import engine
from rl.errors import InvalidInput

PARTITIONED = ("calls", "trajectories", "turns")
PARTITION = re.compile(rf"({'|'.join(PARTITIONED)})_(\d{{4}})w(\d{{2}})")
"""The name of a partition: table, ISO year, ISO week."""
ITSELF = "0012"
"""From this revision on the schema makes partitions itself: a worker or a gateway may define nothing."""
WEEK = timedelta(days=7)
FIRST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), timedelta(days=35)
"""Rows are taken from ``FIRST`` on, and up to ``LATEST`` ahead: a wrong clock must not make a table a row."""

_made: set[tuple[str, datetime]] = set()
"""(database, week) that this process made or found. It says nothing of a week that is over."""


def week_of(moment: datetime) -> datetime:
    """The beginning of the UTC week that holds ``moment`` (aware)."""
    day = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day - timedelta(days=day.weekday())


def bounds(moment: datetime) -> dict[str, datetime]:
    """``since`` and ``until`` of the week that holds ``moment``, for a statement that is to look nowhere else."""
    return {"since": week_of(moment), "until": week_of(moment) + WEEK}


def name_of(table: str, week: datetime) -> str:
    """The partition of ``table`` for that week, such as ``calls_2025w03``."""
    year, number, _ = week.isocalendar()
    return f"{table}_{year}w{number:02}"


def ensure(moments: Iterable[datetime]) -> None:
    """Make the partitions that rows of these moments need, in a transaction of its own.

    Raises:
        InvalidInput: a moment lies before ``FIRST``, or more than ``LATEST`` ahead of this machine's clock.
    """
    weeks = {week_of(moment) for moment in moments}
    url, now = str(engine().url), datetime.now(UTC)
    # A week that is over may have been dropped by retention, in whichever process.
    for week in sorted(weeks - {known for name, known in _made if name == url and known + WEEK > now}):
        _check(week)
        with engine().begin() as connection:
            for table in PARTITIONED:
                _make(connection, table, week)
        _made.add((url, week))


def _check(week: datetime) -> None:
    if not FIRST <= week <= datetime.now(UTC) + LATEST:
        remedy = f"give a moment after {FIRST:%Y-%m-%d} that is not in the future; look at the clock of its sender"
        raise InvalidInput("at", week.isoformat(), remedy)


def _make(connection: Connection, table: str, week: datetime) -> None:
    name = name_of(table, week)
    connection.execute(text("select pg_advisory_xact_lock(hashtext(:name))"), {"name": f"rlfleet.{name}"})
    if connection.scalar(text("select to_regclass(:name)"), {"name": f"rlfleet.{name}"}) is None:
        for statement in statements(name):
            connection.execute(text(statement))


def statements(name: str, revision: str = ITSELF) -> list[str]:
    """What makes the partition called ``name`` in a schema of that revision; nothing for a table that is none.

    An empty table is attached, because ``create table ... partition of`` would wait for all readers and writers.
    Statements that define take no parameters: names and bounds are made here, of numbers alone.
    """
    found = PARTITION.fullmatch(name)
    if found is None:
        return []
    if revision >= ITSELF:
        return [f"select rlfleet.make_partition('{name}')"]
    week = datetime.fromisocalendar(int(found[2]), int(found[3]), 1).replace(tzinfo=UTC)
    bounds = f"from ('{week.isoformat()}') to ('{(week + WEEK).isoformat()}')"
    kept = "including defaults including constraints including storage"
    return [
        f"create table rlfleet.{name} (like rlfleet.{found[1]} {kept})",
        f"alter table rlfleet.{found[1]} attach partition rlfleet.{name} for values {bounds}",
    ]


def forget() -> None:
    """Look again which partitions there are, after they were dropped or the database was replaced."""
    _made.clear()
