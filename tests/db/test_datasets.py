from __future__ import annotations

import json

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from db import datasets, dispatch, lines, windows
from db.datasets import check, freeze, of_job, rows_of
from db.session import transaction
from db.tables import Dataset
from db.trajectories import Scored, insert_trajectories
from rl.config import LineConfig, digest
from rl.errors import InvalidInput
from rl.records import Trajectory
from rl.windows import parse

pytestmark = pytest.mark.usefixtures("fresh")

HOUR = "2025-01-15T10:00"
ROWS = [("b", "s/2"), ("Z", "s/10"), ("é", "S 1"), ("a", "s/2"), ("_", "ß")]
"""(trajectory, scenario); languages put them in another order than their code points do."""


def frozen(session: Session) -> Dataset:
    """A dataset of ``ROWS``, which came in an order that no collation makes."""
    line = lines.put(session, "main", LineConfig(base_model="b"))
    window = windows.ensure(session, line, parse(HOUR), state="scored")
    moment = parse(HOUR).hour
    assert moment is not None
    about = {"agent_id": "a", "started_at": moment, "ended_at": moment, "calls": []}
    several = [Trajectory(trajectory_id=one, scenario_id=scenario, reward=0.1, **about) for one, scenario in ROWS]
    insert_trajectories(session, line, window, "jsonl", several)
    job = dispatch.request(session, dispatch.Spec("train", line, {"windows": [HOUR]}, {}, "gpu"))
    scored = [Scored(one, HOUR, scenario, 0.1, 0.1 + place) for place, (one, scenario) in enumerate(ROWS)]
    return freeze(session, line, job, [window], scored, {})


def test_rows_are_hashed_and_read_by_code_points() -> None:
    with transaction() as session:
        dataset = frozen(session)
        expected = [["é", "S 1", 2.1], ["Z", "s/10", 1.1], ["a", "s/2", 3.1], ["b", "s/2", 0.1], ["_", "ß", 4.1]]
        assert dataset.sha256 == digest(expected)
        assert [one.trajectory_id for one in rows_of(session, dataset.id)] == ["é", "Z", "a", "b", "_"]
        check(dataset, rows_of(session, dataset.id))
        assert of_job(session, dataset.job_id) is dataset
        assert of_job(session, dataset.job_id + 1) is None


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("delete from rlfleet.dataset_trajectories where trajectory_id = 'Z'", "4 of its 5 rows are left"),
        (
            "update rlfleet.dataset_trajectories set score = score + 1e-15 where score > 4",
            "its rows were changed since",
        ),
        (
            "update rlfleet.dataset_trajectories set \"group\" = :hour || ' s' where score > 4",
            "its rows were changed",
        ),
    ],
)
def test_rows_that_are_gone_or_were_changed_are_named(statement: str, why: str) -> None:
    with transaction() as session:
        dataset = frozen(session)
        values = {"hour": HOUR} if ":hour" in statement else {}
        session.execute(text(statement), values)
        session.expire_all()
        with pytest.raises(InvalidInput, match=why) as caught:
            check(dataset, rows_of(session, dataset.id))
    assert (caught.value.field, caught.value.value) == ("dataset", dataset.id)


def test_a_score_goes_through_json_and_the_database_to_the_bit() -> None:
    """What the hash rests on: a double is the same one after both."""
    score = 0.1 + 0.2
    with transaction() as session:
        assert session.execute(text("select cast(:x as float8)"), {"x": score}).scalar_one() == score
    assert json.loads(json.dumps(score)) == score
    assert datasets._sha256([("w", "s", "t", score)]) == digest([["t", "s", score]])
