"""Looks for late rows that are broken, killed, or done twice at once: nothing is lost, nothing doubled."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import tasks
from db import jobs, planning
from db.session import transaction
from tasks import gather
from tasks.carry import Lease
from tests.tasks.conftest import HOUR, trajectory
from tests.tasks.late import Log, first_read, line_of, stored, window, work
from tests.tasks.rows import claimed, rows

pytestmark = pytest.mark.usefixtures("fresh")

AGAIN = {"window": HOUR, "rows": 3}


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "agent.jsonl", 0, 1)


def look() -> str:
    return tasks.look_again.run()


def test_a_line_whose_source_is_broken_does_not_hold_up_the_other(log: Log, tmp_path: Path, caplog: Any) -> None:
    broken = Log(tmp_path / "broken.jsonl", 5)
    line_of(broken, "broken")
    line_of(log)
    first_read()
    broken.path.unlink()
    log.append(trajectory(2))
    for _ in range(4):  # whichever line is first
        assert look().startswith("late: asked for 1")
    assert "line broken was not looked at again" in caplog.text
    work("collect")
    assert stored() == ["t0", "t1", "t2", "t5"]


def test_a_tick_is_taken_once(log: Log) -> None:
    line_of(log)
    assert tasks.look_again.run(10**9) == "late: asked for 0, rang 0"
    assert tasks.look_again.run(10**9) == "late: this tick is taken"


def test_two_looks_and_two_readings_at_once_double_nothing(log: Log) -> None:
    line_of(log, after=(1.0,))
    first_read()
    log.append(trajectory(2))
    at_once(look, look)
    asked = rows("select id, inputs from rlfleet.jobs where kind = 'collect' and state = 'queued' order by id")
    assert [row[1] for row in asked] == [AGAIN, {"window": HOUR, "after_hours": 1.0}]
    claims = [claimed(row[0]) for row in asked]
    effects = [gather.from_source(one_, Lease(one_, 60)) for one_ in claims]

    def commit(place: int) -> None:
        with transaction() as session:
            jobs.finish(session, claims[place], effects[place])

    at_once(lambda: commit(0), lambda: commit(1))
    assert (stored(), window()) == (["t0", "t1", "t2"], ("collected", 1, "1 row came late"))
    assert rows("select count(*) from rlfleet.calls where trajectory_id = 't2'") == [(1,)]
    counted = rows("select result -> 'new' from rlfleet.jobs where result ? 'trajectories'")
    assert sorted(row[0] for row in counted) == [0, 1, 2]


def at_once(*doings: Any) -> None:
    """Do them in threads of their own, begun together."""
    together, failed = threading.Barrier(len(doings)), []

    def do(doing: Any) -> None:
        together.wait()
        try:
            doing()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=do, args=(doing,)) for doing in doings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_a_look_that_dies_in_the_middle_is_made_up_for_by_the_next(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Log(tmp_path / "other.jsonl", 5)
    line_of(log)
    line_of(other, "other")
    first_read()
    log.append(trajectory(2))
    other.append(trajectory(6))
    request, seen = planning.request, []

    def dies(*values: Any, **fields: Any) -> int:
        seen.append(values)
        if len(seen) == 2:
            raise SystemExit
        return request(*values, **fields)

    with monkeypatch.context() as patch:
        patch.setattr(planning, "request", dies)
        with pytest.raises(SystemExit):
            tasks.look_again.run(1)
    assert rows("select count(*) from rlfleet.jobs where kind = 'collect' and state = 'queued'") == [(1,)]
    assert look() == "late: asked for 2, rang 2"
    work("collect")
    assert stored() == ["t0", "t1", "t2", "t5", "t6"]
