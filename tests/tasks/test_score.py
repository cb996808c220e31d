from __future__ import annotations

import pytest

import tasks
from db import episodes, trajectories
from db.session import transaction
from rl import records
from rl.scoring_config import Scoring
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


def test_a_line_may_score_by_a_heuristic_and_its_reasons_are_kept() -> None:
    line = add_line()
    window = add_window(line, HOUR, "collected")
    played = trajectory(0).model_copy(
        update={
            "turns": [
                records.Turn(turn=0, state={"agentPnL": 500.0}, action=records.Action(kind="BUY_SHARES", success=True))
            ]
        }
    )
    with transaction() as session:
        trajectories.insert_trajectories(session, line, window, "jsonl", [played, trajectory(1)])
        whole = {one.trajectory_id: one for one in episodes.of_window(session, window)}
    assert whole["t0"].turns == played.turns
    assert whole["t1"].turns == []
    config = {"scoring": Scoring(method="heuristic", variant="agent").model_dump(mode="json")}
    job = asked(line, inputs={"window": HOUR}, config=config)
    tasks.score.run(job)
    # 0.5 * (500 + 1000) / 2000 + 0.3 * 1 + 0.2 * 1 / 20: the formula of the agent's heuristic, by hand.
    found = rows("select trajectory_id, method, score from rlfleet.scores where trajectory_id = 't0'")
    assert [(name, method, pytest.approx(score)) for name, method, score in found] == [("t0", "heuristic:agent", 0.685)]
