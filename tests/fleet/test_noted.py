"""What changes something from the shell leaves a row of the audit, committed with it, also where it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from db import forgetting, prune
from db.session import transaction
from fleet import cli
from rl.errors import DatabaseUnavailable, InvalidInput, TransientError, UnknownWindow
from tests.conftest_database import database, database_url, empty, postgres_url
from tests.conftest_redis import point_app_at
from tests.db import kept
from tests.db.chains import add_line as add_line_of
from tests.db.chains import add_version
from tests.tasks.conftest import HOUR
from tests.tasks.rows import EAGER, add_line, add_scored, add_window, rows
from tests.tasks.test_requests_many import source

__all__ = ["database", "database_url", "postgres_url"]

LINE = 'base_model = "/base"\nsource = "jsonl:///agent.jsonl"\n'
RUN = """
name = "demo"
rounds = 1
rollout = {environment = "trading-small", scenarios = 2, episodes = 2}
validation = {environment = "trading-small", split = "validation", count = 300}
held_out = {environment = "trading-small", split = "held_out", count = 300}
[train]
objective = "grpo"
optimizer = {learning_rate = 1e-4}
"""


@pytest.fixture
def shell(database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CliRunner:
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:9/0")
    monkeypatch.setenv("RLFLEET_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.setenv("USER", "ann")
    point_app_at("redis://127.0.0.1:9/0")
    with transaction() as session:
        empty(session)
        session.execute(kept.text("truncate rlfleet.audit restart identity"))
    return CliRunner()


def told() -> list[tuple[str, str, str]]:
    """Action, subject and outcome of each row, the oldest first."""
    found = rows("select actor, action, subject, outcome from rlfleet.audit order by id")
    assert {row[0] for row in found} <= {"ann@shell"}
    return [tuple(row[1:]) for row in found]


def details() -> list[dict[str, Any]]:
    return [row[0] for row in rows("select detail from rlfleet.audit order by id")]


def test_a_line(shell: CliRunner, tmp_path: Path) -> None:
    file = tmp_path / "line.toml"
    file.write_text(LINE)
    assert shell.invoke(cli.app, ["line", "shop", str(file)]).exit_code == 0
    assert isinstance(shell.invoke(cli.app, ["line", "No Name", str(file)]).exception, InvalidInput)
    assert told() == [("line", "shop", "done"), ("line", "No Name", "refused")]
    assert details()[0] == {"base_model": "/base", "source": "jsonl:///agent.jsonl"}


def test_windows_to_train_on(shell: CliRunner, tmp_path: Path) -> None:
    add_window(add_line(source=source(tmp_path, HOUR)), HOUR, "scored")
    assert shell.invoke(cli.app, ["train", HOUR]).exit_code == 0
    assert isinstance(shell.invoke(cli.app, ["train", "2025-01-15T23:00"]).exception, UnknownWindow)
    assert shell.invoke(cli.app, ["train", HOUR, "--dry-run"]).exit_code in (0, 1)
    span = ["--since", "2025-01-15", "--until", "2025-01-16"]
    assert shell.invoke(cli.app, ["train", *span]).exit_code == 0
    assert told() == [("train", "main", "done"), ("train", "main", "refused"), ("train", "main", "done")]
    first, refused, third = details()
    assert first == {"windows": HOUR}
    assert "2025-01-15T23:00" in refused["error"]
    assert third == {"since": "2025-01-15T00:00:00+00:00", "until": "2025-01-16T00:00:00+00:00", "every": 0}


def test_continuous_training_is_noted_where_it_asks(shell: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    add_scored(add_line(readiness=EAGER), HOUR)
    looks: list[float] = []

    def pause(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("fleet.train_cli.time.sleep", pause)
    shell.invoke(cli.app, ["train", "--mode", "continuous"])
    assert (len(looks), told(), details()) == (3, [("train", "main", "done")], [{"mode": "continuous"}])


def test_an_evaluation_and_the_start_of_a_run(shell: CliRunner, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(RUN)
    assert isinstance(shell.invoke(cli.app, ["run", str(file)]).exception, InvalidInput)
    with transaction() as session:
        version = add_version(session, add_line_of(session), (4,)).name
    asked = ["evaluate", version, "--environment", "trading-small", "--scenarios", "7"]
    assert shell.invoke(cli.app, asked).exit_code == 0
    assert told() == [("start run", "demo", "refused"), ("evaluate", version, "done")]
    assert details()[1] == {"environment": "trading-small", "scenarios": 7}


def test_an_agent_is_forgotten_after_it_is_noted(shell: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.old("a")
    assert shell.invoke(cli.app, ["forget", "alice", "--dry-run"]).exit_code == 0
    assert told() == []
    assert shell.invoke(cli.app, ["forget", "alice", "--yes"]).exit_code == 0
    assert isinstance(shell.invoke(cli.app, ["forget", "alice", "--yes", "--line", "nope"]).exception, InvalidInput)
    assert told() == [("forget", "alice", "done"), ("forget", "alice", "refused")]

    def breaks(*_: object, **__: object) -> None:
        assert told()[2:] == [("forget", "bob", "done")], "nothing is erased before it is noted"
        raise TransientError("a job is training on it")

    monkeypatch.setattr(forgetting, "forget", breaks)
    assert isinstance(shell.invoke(cli.app, ["forget", "bob", "--yes"]).exception, TransientError)
    assert told()[2:] == [("forget", "bob", "done"), ("forget", "bob", "failed")]
    assert details()[-1] == {"error": "a job is training on it"}


def test_retention_by_hand(shell: CliRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    artifacts = str(tmp_path / "artifacts")
    assert shell.invoke(cli.app, ["gc"]).exit_code == 0
    assert told() == []
    assert shell.invoke(cli.app, ["gc", "--apply"]).exit_code == 0
    assert told() == [("gc", artifacts, "done")]

    def away() -> None:
        raise DatabaseUnavailable("it went away")

    monkeypatch.setattr(prune, "old_rows", away)
    assert isinstance(shell.invoke(cli.app, ["gc", "--apply"]).exception, DatabaseUnavailable)
    assert told()[1:] == [("gc", artifacts, "done"), ("gc", artifacts, "failed")]
