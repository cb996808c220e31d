"""A pipeline that is started again, beside another, stopped, or on a disk that is full."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import text

import fleet.pipeline.run as running
from db import lines
from db.session import transaction
from environments import demonstrate
from fleet.pipeline.bars import Bars
from fleet.pipeline.course import Course
from fleet.pipeline.folder import Folder
from fleet.pipeline.place import Place
from fleet.pipeline.stages import Stages
from rl.config import LineConfig
from rl.errors import InvalidInput, StartError
from rl.pipeline import Pipeline
from tests.conftest_database import *  # noqa: F403
from tests.conftest_database import empty

CONFIG = Pipeline.model_validate(
    {
        "name": "little",
        "environment": "sat-small",
        "model": {"starter": {}},
        "demonstrations": {"scenarios": 20},
        "sft": {"steps": 5, "optimizer": {"learning_rate": 3e-3}},
        "rl": {
            "rounds": 1,
            "rollout": {"scenarios": 2, "episodes": 2},
            "train": {"optimizer": {"learning_rate": 2e-3}},
        },
        "validation": {"count": 10},
        "held_out": {"count": 6},
        "release": {"min_scenarios": 4},
    }
)
LINE = LineConfig(base_model="/srv/base", version_prefix="little", source="jsonl:///srv/little.jsonl")


@pytest.fixture
def course(database: str, tmp_path: Path) -> Course:
    with transaction() as session:
        empty(session)
    place = Place(tmp_path, tmp_path / "logs", {}, lambda: None, lambda: None)
    return Course(place, "little", Bars(Console(file=StringIO()), 1), "again")


def test_a_line_of_the_same_name_is_not_overwritten(course: Course) -> None:
    with transaction() as session:
        lines.put(session, "little", LINE)
    course.refuse_another(LINE)
    other = LINE.model_copy(update={"base_model": "/srv/other"})
    with pytest.raises(InvalidInput, match="name = 'little': a line of this name is there with other settings"):
        course.clone(other, "2025-01-15T10:00")
    with transaction() as session:
        assert lines.config_of(lines.named(session, "little")) == LINE
        session.execute(text("update rlfleet.lines set config = '{\"gone\": 1}'"))
    with pytest.raises(InvalidInput, match="a line of this name is there"):
        course.refuse_another(LINE)


def test_failed_jobs_are_found_behind_those_of_other_lines(course: Course) -> None:
    insert = text("""
        insert into rlfleet.jobs (kind, line_id, dedup_key, queue, inputs, config, state, error)
        select 'train', :line, n::text, 'gpu', '{}', '{}', 'failed', 'why' from generate_series(1, :count) n
    """)
    with transaction() as session:
        for name, count in (("little", 2), ("other", 120)):
            config = LINE.model_copy(update={"version_prefix": name})
            session.execute(insert, {"line": lines.put(session, name, config), "count": count})
    assert [job.line for job in course.broken()] == ["little", "little"]


@pytest.fixture
def at_hand(course: Course, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Place:
    """A fleet that is there, whose database is the tests'."""
    place = Place(tmp_path, tmp_path / "logs", dict(os.environ), lambda: None, lambda: None)

    @contextmanager
    def found(_: object, **__: object) -> Iterator[Place]:
        yield place

    monkeypatch.setenv("RLFLEET_HOME", str(tmp_path))
    monkeypatch.setattr(running, "at_hand", found)
    return place


@pytest.mark.usefixtures("at_hand")
def test_the_line_is_seen_before_anything_is_made(tmp_path: Path) -> None:
    with transaction() as session:
        lines.put(session, "little", LINE)
    with pytest.raises(InvalidInput, match="a line of this name is there"):
        running.run(CONFIG, Console(file=StringIO()))
    assert not Folder(tmp_path / "pipelines" / "little").begun


@pytest.mark.usefixtures("at_hand")
def test_what_was_changed_for_it_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stages, "run", lambda self, name: self.folder.demonstrations.touch())
    said = StringIO()
    for _ in range(2):
        running.run(CONFIG, Console(file=said, width=300), changes=["quick: rl.rounds = 2, and not 20"])
    assert said.getvalue().count("quick: rl.rounds = 2, and not 20") == 1
    assert said.getvalue().count("little starts; ") == 1
    assert said.getvalue().count("little goes on where it was; ") == 1


@pytest.mark.usefixtures("at_hand")
def test_two_starts_at_once_are_one(tmp_path: Path) -> None:
    held = Folder(tmp_path / "pipelines" / "little").held()
    with held, pytest.raises(StartError, match=f"pipeline little is being run by process {os.getpid()}"):
        running.run(CONFIG, Console(file=StringIO()))


@pytest.mark.parametrize(
    ("drain", "words"),
    [
        (None, "stopping; the fleet goes on with what it has been asked for"),
        (30.0, "stopping; workers have up to 30 s to put their work down"),
    ],
)
def test_ctrl_c_is_answered_at_once(
    at_hand: Place, drain: float | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> Any:
        raise KeyboardInterrupt

    object.__setattr__(at_hand, "drain_seconds", drain)
    monkeypatch.setattr(Stages, "run", stopped)
    said = StringIO()
    with pytest.raises(KeyboardInterrupt):
        running.run(CONFIG, Console(file=said, width=200))
    assert said.getvalue().splitlines()[-2:] == [words, "stopped; the same command goes on from here"]


@pytest.mark.usefixtures("at_hand")
def test_a_full_disk_is_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Stages, name: str) -> None:
        with self.folder.timed(name):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Stages, "run", full)
    with pytest.raises(StartError, match=f"there is no room left on the disk that holds {tmp_path}/pipelines/little"):
        running.run(CONFIG, Console(file=StringIO()))

    def gone(self: Stages, name: str) -> None:
        raise ConnectionResetError(104, "reset by peer")

    monkeypatch.setattr(Stages, "run", gone)
    with pytest.raises(ConnectionResetError):
        running.run(CONFIG, Console(file=StringIO()))


def test_demonstrations_on_a_full_disk_are_said_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> Iterator[int]:
        raise OSError(28, "No space left on device", str(tmp_path / "x.jsonl"))

    monkeypatch.setattr(demonstrate, "write_all", full)
    words = ["--environment", "sat-small", "--scenarios", "5", "--prefix", "x", "--hour", "2025-01-15T10:00"]
    with pytest.raises(SystemExit) as ended:
        demonstrate.main([*words, "--out", str(tmp_path / "x.jsonl")])
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"environments.demonstrate: {tmp_path}/x.jsonl: No space left on device\n"
