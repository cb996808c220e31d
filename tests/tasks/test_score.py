from __future__ import annotations

import pytest

import tasks
from db import trajectories
from db.session import transaction
from tests.tasks.conftest import HOUR, trajectory
from tests.tasks.rows import add_line, add_window, asked, one, rows

pytestmark = pytest.mark.usefixtures("fresh")


def scoring(line: int) -> int:
    return asked(line, inputs={"window": HOUR}, config={"method": "reward", "method_version": "1"})


def test_every_trajectory_gets_its_reward_as_its_score() -> None:
    line = add_line()
    window = add_window(line, HOUR, "collected")
    with transaction() as session:
        trajectories.insert_trajectories(session, line, window, "jsonl", [trajectory(0), trajectory(1)])
    job = scoring(line)
    assert tasks.score.run(job) == f"job {job} score main {HOUR}: succeeded"
    assert rows("select trajectory_id, score from rlfleet.scores order by 1") == [("t0", 0.0), ("t1", 1.0)]
    assert one("select state from rlfleet.windows") == ("scored",)
    assert one("select result from rlfleet.jobs where id = :id", id=job) == ({"scored": 2, "new": 2},)


def test_a_window_that_was_skipped_stays_skipped() -> None:
    line = add_line()
    add_window(line, HOUR, "skipped")
    tasks.score.run(scoring(line))
    assert one("select state from rlfleet.windows") == ("skipped",)
