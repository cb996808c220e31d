"""A line that is cloned, and everything by which that can end without a version to go on from."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from sqlalchemy import text

from db import audit, jobs, lines, windows
from db.session import transaction
from db.tables import Decision, Job, Version
from environments.demonstrate import Order, demonstrate
from fleet.pipeline.bars import Bars
from fleet.pipeline.course import Course
from fleet.pipeline.place import Place
from rl.config import LineConfig
from rl.errors import InvalidInput, StartError
from rl.windows import parse
from tests.conftest_database import *  # noqa: F403
from tests.conftest_database import add_version, empty, released

HOUR = "2025-01-15T10:00"
INSERT = text("""
    insert into rlfleet.jobs (kind, line_id, dedup_key, queue, inputs, config, state, error)
    select 'score', id, 'one', 'score', '{}', '{}', :state, :error from rlfleet.lines returning id
""")


@pytest.fixture
def course(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Course:
    """A course on no fleet, whose jobs nobody does."""
    with transaction() as session:
        empty(session)
    monkeypatch.setattr("tasks.ring.ring", list)

    def polled() -> None:
        raise TimeoutError("it would wait for ever")

    return Course(
        Place(tmp_path, tmp_path / "logs", {}, polled, lambda: None),
        "little",
        Bars(Console(file=StringIO()), 1),
        "again",
    )


@pytest.fixture
def config(tmp_path: Path) -> LineConfig:
    """The line of a log with one trajectory."""
    log = tmp_path / "log.jsonl"
    shown = demonstrate(Order("sat-small", 0, 1, "little", datetime(2025, 1, 15, 10, tzinfo=UTC)), 0)
    log.write_text(shown.model_dump_json(exclude_none=True) + "\n")
    sft = {"objective": "sft", "steps": 1, "optimizer": {"learning_rate": 1e-3}}
    values = {"base_model": "/srv/base", "version_prefix": "little", "source": f"jsonl://{log}", "train": sft}
    return LineConfig.model_validate({**values, "automatic": False})


def _version(state: str) -> Version:
    with transaction() as session:
        return add_version(session, lines.named(session, "little"), state=state, prefix="little")


def _approval() -> None:
    """The first version waits for a person."""
    version = _version("candidate")
    with transaction() as session:
        asked = {"line_id": version.line_id, "version_id": version.id, "job_id": version.job_id, "fence": 1}
        told = {"policy": "first", "released": False, "reason": "nothing to compare with", "evidence": {}}
        session.add(Decision(**asked, **told, approval="waiting"))


def test_a_source_that_cannot_be_read_is_told_at_once(course: Course, config: LineConfig) -> None:
    gone = config.model_copy(update={"source": "jsonl:///nowhere/log.jsonl"})
    with pytest.raises(InvalidInput, match=r"/nowhere/log\.jsonl"):
        course.clone(gone, HOUR)


def test_the_line_is_asked_to_train_on_the_hour(course: Course, config: LineConfig) -> None:
    with pytest.raises(TimeoutError):
        course.clone(config, HOUR)
    with transaction() as session:
        assert {job.kind for job in session.query(Job)} == {"collect", "score", "train"}
        newest, before = audit.listing(session, 2)
    assert [(one.action, one.subject, one.outcome) for one in (before, newest)] == [
        ("line", "little", "done"),
        ("train", "little", "done"),
    ]
    with transaction() as session:
        version = add_version(session, lines.named(session, "little"), prefix="little")
        released(session, version.line_id, version.id)
    assert course.clone(config, HOUR) == "little-v1.0.0"


@pytest.mark.parametrize(
    ("become", "says"),
    [
        (_approval, r"little-v1\.0\.0 waits for a person's approval: .*`rlfleet approve little-v1\.0\.0`"),
        (lambda: _version("rejected"), r"little-v1\.0\.0 was rejected, .*; start anew with --fresh"),
    ],
)
def test_a_version_that_nobody_released_is_not_waited_for(
    course: Course, config: LineConfig, become: Callable[[], object], says: str
) -> None:
    with transaction() as session:
        lines.put(session, "little", config)
    become()
    with pytest.raises(StartError, match=says):
        course.clone(config, HOUR)


def test_a_job_that_was_cancelled_is_not_waited_for(course: Course, config: LineConfig) -> None:
    with transaction() as session:
        lines.put(session, "little", config)
        job_id = int(session.execute(INSERT, {"state": "cancelled", "error": "cancelled on request"}).scalar_one())
    with pytest.raises(StartError, match=f"job {job_id} score little: cancelled .*; again"):
        course.until(lambda facts: False)
    course.try_again()
    assert course.broken() == []
    with transaction() as session:
        (entry,) = audit.listing(session, 1)
    assert (entry.action, entry.subject, entry.outcome) == ("requeue job", str(job_id), "done")


def test_a_job_that_was_put_aside_is_left_alone(course: Course, config: LineConfig) -> None:
    with transaction() as session:
        lines.put(session, "little", config)
        job_id = int(session.execute(INSERT, {"state": "dead", "error": "no luck"}).scalar_one())
    assert [job.job_id for job in course.broken()] == [job_id]
    assert jobs.cancel(job_id) == "cancelled"
    assert course.broken() == []


def test_a_job_of_a_round_that_was_skipped_is_left_alone(course: Course, config: LineConfig) -> None:
    with transaction() as session:
        line = lines.put(session, "little", config)
        session.execute(INSERT, {"state": "failed", "error": "no luck"})
        session.execute(text("""update rlfleet.jobs set inputs = '{"windows": ["2025-01-15T11:00"]}'"""))
        window = windows.ensure(session, line, parse("2025-01-15T11:00"), state="scored")
    assert len(course.broken()) == 1
    with transaction() as session:
        windows.move(session, window, "skipped", "its run was finished")
    assert course.broken() == []
