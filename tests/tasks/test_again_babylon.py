"""Rows and outcomes that come late in a Babylon-style database, of which every malformed variant is there too."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import pytest

import tasks
from db import lines
from db.session import transaction
from rl.config import LineConfig
from rl.late import Late
from tests.conftest_database import _execute
from tests.sources.babylon import Expected, build, reader
from tests.sources.babylon_tables import cursor_on
from tests.tasks.late import AGES, ask, stored, work
from tests.tasks.rows import add_window, one, rows

ROWS = 480
LATE_HOUR = "2025-01-13T01:00"
LATE = """
    create temporary table late on commit drop as select * from trajectories where "trajectoryId" = %s;
    update late set id = %s, "trajectoryId" = %s;
    insert into trajectories select * from late
"""


@pytest.fixture
def theirs(postgres_url: str, fresh: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Expected]]:
    """Their database's URL and what it holds; a role with no right but SELECT reads it through THEIRS_URL."""
    name = f"theirs_{secrets.token_hex(4)}"
    _execute(postgres_url, f"create database {name}")
    url = urlunsplit(urlsplit("postgresql://" + postgres_url.split("://", 1)[1])._replace(path=f"/{name}"))
    expected = build(url, trajectories=ROWS)
    with reader(url) as read_only:
        monkeypatch.setenv("THEIRS_URL", read_only)
        yield url, expected
    _execute(postgres_url, f"drop database {name} with (force)")


def put_line(*outcomes_after: float) -> int:
    late = Late(hours=AGES, outcomes_after=outcomes_after)
    config = LineConfig(base_model="random-qwen3", source="babylon://THEIRS_URL", late=late)
    with transaction() as session:
        return lines.put(session, "main", config)


def look() -> int:
    """How many readings one look asks for; they are done."""
    asked = int(tasks.look_again.run().split()[3].rstrip(","))
    work("collect", "score")
    return asked


def add_late(url: str, like: str, *names: str) -> None:
    for name in names:
        with cursor_on(url) as cursor:
            cursor.execute(LATE, (like, f"late-{name}", name))


def test_late_rows_and_outcomes_of_a_foreign_database(theirs: tuple[str, Expected]) -> None:
    url, expected = theirs
    line = put_line()
    hours = {hour: count for hour, count in expected.windows.items() if hour < "2025-01-13T08:00"}
    for hour in hours:
        add_window(line, hour, "closed")
    ask()
    work("collect", "score")
    first = set(stored())
    assert first < expected.usable

    assert len(hours) == 8
    assert rows("select count(*) > 0 from rlfleet.quarantine") == [(True,)]
    assert read() == hours, "rows that cannot be used are rows of their hour too"
    assert look() == 0
    assert rows("select distinct state, again from rlfleet.windows") == [("scored", 0)]

    (like, *_) = in_hour()
    add_late(url, like, "traj-late-1", "traj-late-2")
    assert look() == 1
    moved = rows("select name, reason from rlfleet.windows where again > 0")
    assert [tuple(row) for row in moved] == [(LATE_HOUR, "2 rows came late")]
    assert set(stored()) - first == {"traj-late-1", "traj-late-2"}
    assert rows("select count(*) from rlfleet.calls where trajectory_id like 'traj-late%'") == [(6,)]
    assert look() == 0

    before = one("select max(id) from rlfleet.outcomes")[0]
    with cursor_on(url) as cursor:
        cursor.execute("update market_outcomes set outcome = 'NO' where \"windowId\" = %s", (LATE_HOUR,))
    put_line(24.0)
    assert look() == len(hours)
    touched = rows("select distinct trajectory_id from rlfleet.outcomes where id > :id order by 1", id=before)
    assert [row[0] for row in touched] == in_hour()
    assert rows("select sum(again) from rlfleet.windows") == [(1,)], "nothing of it is a late row"


def read() -> dict[str, int]:
    """How many rows were read, by window."""
    return {row[0]: row[1] for row in rows("select name, rows_read from rlfleet.windows")}


def in_hour() -> list[str]:
    """The stored trajectories of ``LATE_HOUR``."""
    found = rows(
        """
        select k.trajectory_id from rlfleet.trajectory_keys k join rlfleet.windows w on w.id = k.window_id
         where w.name = :name order by 1
        """,
        name=LATE_HOUR,
    )
    return [row[0] for row in found]
