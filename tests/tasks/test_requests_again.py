from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module

import pytest
from celery.exceptions import Reject

from db import jobs, windows
from db.session import transaction
from rl.errors import DatabaseUnavailable, InvalidInput
from tasks.requests import daily_training, request
from tests.conftest_database import empty
from tests.tasks.conftest import HOUR
from tests.tasks.rows import EAGER, add_line, add_scored, add_window, claimed, job, one, rows

NEXT_HOUR = "2025-01-15T11:00"


@pytest.fixture
def fresh(database: str) -> str:
    """The folder's fixture without a broker: nothing here sends a message."""
    with transaction() as session:
        empty(session)
    return database


@pytest.fixture
def daily(fresh: str) -> int:
    """The id of a daily job on two hours."""
    line = add_line(readiness=EAGER)
    for hour in (HOUR, NEXT_HOUR):
        add_scored(line, hour)
    (job_id,) = daily_training()
    return job_id


def test_a_window_that_a_daily_job_is_to_train_gives_that_job(daily: int) -> None:
    assert [request(HOUR), request(NEXT_HOUR)] == [daily, daily]
    claimed(daily)
    assert request(HOUR) == daily, "it is running"
    assert len(rows("select 1 from rlfleet.jobs")) == 1


def test_a_window_that_a_daily_job_trained_gives_that_job(daily: int) -> None:
    claim = claimed(daily)
    with transaction() as session:
        jobs.finish(session, claim, lambda _: {})
        for window in windows.on_line(session, claim.line_id):
            windows.move(session, window.id, "trained")
    assert [request(HOUR), request(NEXT_HOUR)] == [daily, daily]
    assert daily_training() == []
    assert len(rows("select 1 from rlfleet.jobs")) == 1


def test_a_window_of_a_daily_job_that_failed_gives_a_job_of_its_own(daily: int) -> None:
    jobs.fail(claimed(daily), "OffPolicyRefused: no", retry=False)
    alone = request(HOUR)
    assert alone != daily
    assert job(alone).inputs == {"windows": [HOUR]}
    assert request(HOUR) == alone
    assert job(request(NEXT_HOUR)).inputs == {"windows": [NEXT_HOUR]}


def test_a_window_that_is_asked_for_is_not_in_the_daily_job_too(fresh: str) -> None:
    line = add_line(readiness=EAGER)
    for hour in (HOUR, NEXT_HOUR):
        add_scored(line, hour)
    asked = request(HOUR)
    (daily,) = daily_training()
    assert daily != asked
    assert job(daily).inputs == {"windows": [NEXT_HOUR]}


def test_a_skipped_window_is_refused_with_its_reason(fresh: str) -> None:
    window = add_window(add_line(source="jsonl:///agent.jsonl"), HOUR, "closed")
    with transaction() as session:
        windows.move(session, window, "skipped", "no usable trajectory (3 quarantined)")
    with pytest.raises(InvalidInput) as caught:
        request(HOUR)
    assert str(caught.value) == f"window_id = '{HOUR}': it was skipped: no usable trajectory (3 quarantined)"
    assert rows("select 1 from rlfleet.jobs") == []


def test_daily_training_goes_on_past_a_line_whose_config_no_longer_parses(
    fresh: str, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("before", "broken", "behind"):
        add_scored(add_line(name, readiness=EAGER), HOUR)
    with transaction() as session:
        broken = """update rlfleet.lines set config = config || '{"gone": 1}' where name = 'broken'"""
        session.connection().exec_driver_sql(broken)
    with caplog.at_level(logging.ERROR):
        asked = daily_training()
    found = "select l.name from rlfleet.jobs j join rlfleet.lines l on l.id = j.line_id where j.id = any(:ids)"
    assert sorted(row[0] for row in rows(found, ids=asked)) == ["before", "behind"]
    assert one("select count(*) from rlfleet.jobs")[0] == 2
    assert "line broken cannot be planned" in caplog.text


def test_a_request_is_put_back_while_the_database_is_away(
    database_away: Callable[[], AbstractContextManager[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # `tasks.train` is the task; the module of that name is found by import only.
    from tasks import train_window  # here, as looking at a task binds it, which needs REDIS_URL

    monkeypatch.setattr(import_module("tasks.train"), "PATIENCE_SECONDS", 0.0)
    add_window(add_line(), HOUR, "scored")
    with database_away(), pytest.raises(Reject) as caught:
        train_window.run(HOUR)
    assert caught.value.requeue is True
    assert isinstance(caught.value.reason, DatabaseUnavailable)
    assert rows("select 1 from rlfleet.jobs") == []
