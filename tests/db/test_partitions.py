from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from threading import Barrier, Thread

import pytest
from sqlalchemy import text

from db import calls, partitions, trajectories, windows
from db.calls import NewCall
from db.session import transaction
from rl import records
from rl.errors import InvalidInput
from rl.windows import parse
from tests.conftest_database import add_line

SUNDAY, MONDAY = datetime(2025, 3, 2, 23, 59, 59, tzinfo=UTC), datetime(2025, 3, 3, tzinfo=UTC)


def names() -> list[str]:
    query = "select relname from pg_class where relispartition and relkind = 'r' and relname like '%2025w1%' order by 1"
    with transaction() as session:
        return list(session.scalars(text(query)))


@pytest.mark.parametrize(
    ("moment", "table"),
    [(SUNDAY, "calls_2025w09"), (MONDAY, "calls_2025w10"), (datetime(2024, 12, 30, tzinfo=UTC), "calls_2025w01")],
)
def test_a_week_begins_on_monday_and_is_named_as_iso_8601_has_it(moment: datetime, table: str) -> None:
    assert partitions.name_of("calls", partitions.week_of(moment)) == table
    assert partitions.PARTITION.fullmatch(table)


def test_moments_of_another_zone_belong_to_the_week_of_utc() -> None:
    early = MONDAY.astimezone(datetime.now().astimezone().tzinfo)
    assert partitions.week_of(early) == MONDAY


def test_several_processes_may_make_the_same_week(fresh: str) -> None:
    partitions.forget()
    start, raised = Barrier(4), []

    def make() -> None:
        start.wait()
        try:
            partitions.ensure([MONDAY])
        except Exception as error:
            raised.append(error)

    threads = [Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert raised == []
    assert names() == ["calls_2025w10", "trajectories_2025w10", "turns_2025w10"]


def test_a_process_that_lived_in_a_week_makes_it_again_once_it_was_dropped(
    fresh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a worker that has run for a month and reads an hour of then, after retention."""
    partitions.forget()

    class Then(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Then:
            return cls(2025, 3, 5, tzinfo=tz)

    with monkeypatch.context() as patch:
        patch.setattr(partitions, "datetime", Then)
        partitions.ensure([MONDAY])
    with transaction() as session:
        for name in names():
            session.execute(text(f"drop table rlfleet.{name}"))
    partitions.ensure([MONDAY])
    assert names() == ["calls_2025w10", "trajectories_2025w10", "turns_2025w10"]


@pytest.mark.parametrize("moment", [datetime(1999, 12, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)])
def test_a_wrong_clock_makes_no_table(fresh: str, moment: datetime) -> None:
    with pytest.raises(InvalidInput, match="look at the clock of its sender"):
        partitions.ensure([moment])


def test_calls_of_the_week_before_come_to_lie_beside_their_trajectory(fresh: str) -> None:
    hour = parse("2025-03-03T00:00")
    partitions.ensure([SUNDAY, MONDAY])
    with transaction() as session:
        line = add_line(session).id
        window = windows.ensure(session, line, hour, state="closed")
        said = {"role": "assistant", "content": "left"}
        spoken = [NewCall(f"c{n}", "t0", n, "main", "m", "a", [], said, at=SUNDAY) for n in range(2)]
        calls.insert(session, spoken)
    with transaction() as session:
        ended = MONDAY + timedelta(minutes=1)
        one = records.Trajectory(
            trajectory_id="t0",
            scenario_id="s",
            agent_id="a",
            started_at=SUNDAY,
            ended_at=ended,
            reward=1.0,
            calls=calls.of_trajectories(session, ["t0"])["t0"],
        )
        assert trajectories.insert_trajectories(session, line, window, "test", [one]) == 1
    with transaction() as session:
        places = text("select distinct p.relname from rlfleet.calls c join pg_class p on p.oid = c.tableoid")
        assert list(session.scalars(places)) == ["calls_2025w10"]
        assert [call.call_id for call in calls.of_trajectories(session, ["t0"])["t0"]] == ["c0", "c1"]
        assert calls.with_id(session, "c1") is not None


def test_reading_a_window_looks_into_one_partition(fresh: str) -> None:
    partitions.ensure([SUNDAY, MONDAY, datetime.now(UTC)])
    with transaction() as session:
        line = add_line(session).id
        window = windows.ensure(session, line, parse("2025-03-03T00:00"), state="closed")
        session.execute(text("set local plan_cache_mode = force_custom_plan"))
        since, until = MONDAY, MONDAY + partitions.WEEK
        bounds = {"ids": ["t0"], "since": since, "until": until}
        plan = session.execute(text(f"explain (format json) {calls.OF_TRAJECTORIES}"), bounds).scalar_one()
        assert touched(plan) == {"calls_2025w10"}
        of_window = text(f"explain (analyze, format json) {trajectories.OF_WINDOWS}")
        plan = session.execute(of_window, {"ids": [window]}).scalar_one()
        assert {name for name in touched(plan) if name.startswith("trajectories_")} <= {"trajectories_2025w10"}


def touched(plan: object) -> set[str]:
    """The partitions that a plan reads, without those that it never came to."""
    if isinstance(plan, list):
        return set().union(*map(touched, plan)) if plan else set()
    if not isinstance(plan, dict):
        return set()
    name = plan.get("Relation Name", "")
    own = {name} if partitions.PARTITION.fullmatch(name) and plan.get("Actual Loops", 1) else set()
    return own.union(*(touched(value) for value in plan.values() if isinstance(value, list | dict)))
