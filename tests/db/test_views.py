from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from alembic import command
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from db import session as db_session
from db.migrate import alembic_config, migrate
from db.session import transaction
from db.tables import SCHEMA
from tests.db.test_lineage import HOUR, fill
from tests.db.trained import add_line, add_version, evaluate, release

NAMES = {
    "training_windows",
    "training_jobs",
    "training_datasets",
    "ruler_scores",
    "trained_models",
    "model_deployments",
}


@pytest.fixture
def session(fresh: str) -> Iterator[Session]:
    with transaction() as opened:
        yield opened


def rows(session: Session, columns: str, view: str, order: str = "id") -> list[tuple[Any, ...]]:
    """Those columns, by the names that the older system gave them."""
    statement = f"select {columns} from rlfleet.{view} order by {order}"  # noqa: S608 - words of this file
    return [tuple(row) for row in session.execute(text(statement))]


def test_windows(session: Session) -> None:
    fill(session)
    columns = 'line, "windowId", state, trajectories, scenario_groups, scored, quarantined'
    assert rows(session, columns, "training_windows") == [("main", HOUR, "trained", 4, 3, 3, 2)]


def test_jobs(session: Session) -> None:
    version, _ = fill(session)
    columns = '"batchId", "scenarioId", "baseModel", "modelVersion", status, "trainingLoss", objective'
    base, trained = rows(session, columns, "training_jobs")
    assert base[1:5] == (None, "random-qwen3", "babylon-agent-v1.0.0", "pending")
    assert trained == (str(version.job_id), HOUR, "random-qwen3", version.name, "pending", 0.5, "weighted_sft")
    ids, rewards = rows(session, '"trajectoryIds", "rewardsJson"', "training_jobs")[1]
    assert (json.loads(ids), json.loads(rewards)) == (["a1", "a2", "b1"], [0.25, 0.75, 1.0])


@pytest.mark.parametrize(
    ("state", "status"), [("succeeded", "completed"), ("dead", "failed"), ("failed", "failed"), ("cancelled",) * 2]
)
def test_the_status_of_a_job_is_in_the_older_words(session: Session, state: str, status: str) -> None:
    add_version(session, add_line(session))
    session.execute(text("update rlfleet.jobs set state = :state"), {"state": state})
    assert rows(session, "status, state", "training_jobs") == [(status, state)]


def test_datasets(session: Session) -> None:
    version, dataset = fill(session)
    columns = 'id, "modelVersion", windows, trajectories, scenario_groups, left_out'
    assert rows(session, columns, "training_datasets") == [(dataset, version.name, [HOUR], 3, 2, 1)]
    ids, rewards = rows(session, '"trajectoryIds", "rewardsJson"', "training_datasets")[0]
    assert (json.loads(ids), json.loads(rewards)) == (["a1", "a2", "b1"], [0.25, 0.75, 1.0])


def test_scores_of_judges_with_their_rank(session: Session) -> None:
    fill(session)
    session.execute(
        text("""insert into rlfleet.scores (trajectory_id, method, method_version, input_hash, score)
                values ('c1', 'reward', '1', 'h', 1)""")
    )
    columns = '"trajectoryId", "judgeModel", "overallScore", rank, "groupId", cost, "windowId"'
    assert rows(session, columns, "ruler_scores", '"trajectoryId"') == [
        ("a1", "gpt-4o-mini", 0.25, 2, "group-a", 0.125, HOUR),
        ("a2", "gpt-4o-mini", 0.75, 1, "group-a", 0.125, HOUR),
        ("b1", "gpt-4o-mini", 1.0, 1, "group-b", 0.125, HOUR),
    ]


def test_models_are_deployed_by_release_rows_alone(session: Session) -> None:
    line = add_line(session)
    first, second = (add_version(session, line, state="ready") for _ in range(2))
    add_version(session, line)
    add_version(session, line, state="rejected")
    for one in (first, second):
        release(session, one)
    evaluate(session, second, 30, 40)
    columns = 'version, status, state, accuracy, "benchmarkCount", "deployedAt" is null, "archivedAt" is null'
    assert rows(session, columns, "trained_models") == [
        ("v1.0.0", "archived", "ready", None, 0, False, False),
        ("v1.0.1", "deployed", "ready", 0.75, 1, False, True),
        ("v1.0.2", "training", "candidate", None, 0, True, True),
        ("v1.0.3", "failed", "rejected", None, 0, True, True),
    ]
    found = rows(session, '"modelId", "baseModel", "storagePath", "evalMetrics"', "trained_models")[1]
    counts = [{"split": "validation", "environment": "gridworld", "k": 30, "n": 40}]
    assert found == (second.name, "random-qwen3", "/checkpoint", counts)
    columns = '"modelId", stage, share, "isActive", "undeployedAt" is null, place, "undeployReason"'
    assert rows(session, columns, "model_deployments") == [
        (first.name, "stable", 100, False, False, 0, "released by a test"),
        (second.name, "stable", 100, True, True, 0, None),
    ]


def test_a_models_accuracy_is_that_of_all_shards_of_its_newest_evaluation(session: Session) -> None:
    version = add_version(session, add_line(session))
    evaluate(session, version, 30, 40)
    session.execute(
        text("""
            insert into rlfleet.evaluations (job_id, fence, version_id, checkpoint_id, checkpoint_sha256, task_set,
                task_set_hash, judge, prompt_hash, ids_sha256, first, k, n, missing)
            select :job_id, 1, version_id, checkpoint_id, checkpoint_sha256, task_set,
                   task_set_hash, judge, prompt_hash, '', 40, 0, 60, 0 from rlfleet.evaluations
        """),
        {"job_id": version.job_id},
    )
    assert rows(session, 'accuracy, "benchmarkCount"', "trained_models") == [(0.3, 1)]


@pytest.mark.parametrize("view", sorted(NAMES))
def test_nothing_is_written_through_a_view(session: Session, view: str) -> None:
    fill(session)
    for statement in ("insert into {} (id) values (1)", "update {} set id = 7", "delete from {}"):
        said = r"cannot (insert into|update|delete from) view"
        with pytest.raises(DBAPIError, match=said), session.begin_nested():
            session.execute(text(statement.format(f"rlfleet.{view}")))


def test_the_way_down_takes_the_views_and_no_table(fresh: str) -> None:
    assert set(inspect(db_session.engine()).get_view_names(schema=SCHEMA)) == NAMES
    try:
        command.downgrade(alembic_config(), "0004")
        before = set(inspect(db_session.engine()).get_table_names(schema=SCHEMA))
        assert set(inspect(db_session.engine()).get_view_names(schema=SCHEMA)) == NAMES
        command.downgrade(alembic_config(), "0003")
        assert inspect(db_session.engine()).get_view_names(schema=SCHEMA) == []
        assert set(inspect(db_session.engine()).get_table_names(schema=SCHEMA)) == before
    finally:
        migrate()
    assert set(inspect(db_session.engine()).get_view_names(schema=SCHEMA)) == NAMES
