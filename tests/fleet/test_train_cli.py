"""``rlfleet train`` in its modes, with the database and no broker: what is asked for is recorded all the same."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from db import jobs
from db.session import transaction
from fleet import cli
from rl.errors import DatabaseUnavailable, InvalidInput, InvalidSettings
from rl.windows import hour_of
from tests.conftest_database import database, database_url, empty, postgres_url
from tests.conftest_redis import point_app_at
from tests.fleet.dry import as_json
from tests.tasks.conftest import HOUR
from tests.tasks.rows import EAGER, add_line, add_scored, add_window, claimed, job, rows
from tests.tasks.test_requests_many import source

__all__ = ["database", "database_url", "postgres_url"]

NEXT = "2025-01-15T11:00"
Train = Callable[..., Result]


@pytest.fixture
def train(database: str, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Runs the command."""
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:9/0")
    point_app_at("redis://127.0.0.1:9/0")
    for name in ("MODE", "WINDOW_ID", "BACKFILL_HOURS", "POLL_INTERVAL"):
        monkeypatch.delenv(name, raising=False)
    with transaction() as session:
        empty(session)

    def run(*args: str) -> Result:
        return CliRunner().invoke(cli.app, ["train", *args])

    return run


def refused(result: Result) -> str:
    assert isinstance(result.exception, InvalidInput), result.output
    assert rows("select 1 from rlfleet.jobs") == []
    return str(result.exception)


def trainings() -> list[list[str]]:
    return [row[0] for row in rows("select inputs -> 'windows' from rlfleet.jobs where kind = 'train' order by id")]


def test_one_window_is_asked_for_while_redis_is_down(train: Train) -> None:
    add_window(add_line(), HOUR, "scored")
    result = train(HOUR)
    assert (result.exit_code, result.stdout) == (0, f"job 1 train main {HOUR}: queued\n")
    assert "recorded, and rung later" in result.stderr


def test_several_windows_are_one_job_as_one_object(train: Train) -> None:
    line = add_line("support")
    for name in (HOUR, NEXT):
        add_window(line, name, "scored")
    found = as_json(train(NEXT, HOUR, "--line", "support", "--json").stdout)
    assert (found["schema"], found["line"], found["mode"]) == (1, "support", "single")
    assert [(one["kind"], one["state"], one["inputs"]) for one in found["jobs"]] == [
        ("train", "queued", {"windows": [HOUR, NEXT]})
    ]


def test_the_environment_names_windows_and_the_mode(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    line = add_line()
    for name in (HOUR, NEXT):
        add_window(line, name, "scored")
    monkeypatch.setenv("WINDOW_ID", f"{HOUR}, {NEXT}")
    assert train().exit_code == 0
    assert trainings() == [[HOUR, NEXT]]
    monkeypatch.setenv("MODE", "list")
    listed = as_json(train("--json").stdout)
    assert [one["name"] for one in listed["windows"]] == [HOUR, NEXT]
    assert train(NEXT).exit_code == 0, "what is named goes before the environment's mode"
    assert trainings() == [[HOUR, NEXT]], "and it is being trained on already"


def test_list_says_what_windows_says(train: Train) -> None:
    add_window(add_line(), HOUR, "scored")
    assert train("--mode", "list", "--json").stdout == CliRunner().invoke(cli.app, ["windows", "--json"]).stdout


def test_backfill_asks_for_all_hours_between_two_moments(train: Train, tmp_path: Path) -> None:
    add_line(source=source(tmp_path, HOUR, NEXT, "2025-01-16T10:00"))
    found = as_json(train("--since", "2025-01-15", "--until", "2025-01-16T00:00Z", "--json").stdout)
    assert (found["mode"], [one["inputs"] for one in found["jobs"]]) == ("backfill", [{"windows": [HOUR, NEXT]}])
    several = train("--mode", "backfill", "--since", "2025-01-15T12:00+02:00", "--every", "1")
    assert several.exit_code == 0
    assert trainings() == [[HOUR, NEXT], ["2025-01-16T10:00"]]


def test_backfill_begins_so_many_hours_ago_by_default(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ago = [hour_of(datetime.now(UTC) - timedelta(hours=hours)).text for hours in (30, 3)]
    add_line(source=source(tmp_path, *ago))
    monkeypatch.setenv("MODE", "backfill")
    monkeypatch.setenv("BACKFILL_HOURS", "10")
    assert train().exit_code == 0
    assert trainings() == [[ago[1]]]


class Stopped(BaseException):
    """Ctrl-C, which the test runner must not take for its own."""


def test_continuous_asks_whenever_the_line_is_ready_and_says_what_it_waits_for(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = add_line(automatic=False, readiness=EAGER.model_copy(update={"min_trajectories": 2}))
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            add_scored(line, HOUR, 1.0)
        elif len(slept) == 4:
            add_scored(line, NEXT, 1.0)
        elif len(slept) == 6:
            raise Stopped

    monkeypatch.setattr("fleet.train_cli.time.sleep", sleep)
    monkeypatch.setenv("POLL_INTERVAL", "0.5")
    with pytest.raises(Stopped):
        train("--mode", "continuous")
    assert trainings() == [[HOUR, NEXT]]
    assert slept == [0.5] * 6


def test_continuous_says_what_is_new_and_nothing_twice(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    line = add_line(readiness=EAGER.model_copy(update={"min_trajectories": 2}))
    slept = []

    def sleep(_: float) -> None:
        slept.append(1)
        if len(slept) == 2:
            add_scored(line, HOUR, 1.0)
        elif len(slept) == 4:
            add_scored(line, NEXT, 1.0)
        elif len(slept) == 5:
            jobs.fail(claimed(1), "OffPolicyRefused: no", retry=False)
        elif len(slept) == 8:
            raise InvalidInput("clock", 8, "stop here")

    monkeypatch.setattr("fleet.train_cli.time.sleep", sleep)
    result = train("--mode", "continuous")
    assert result.stdout.splitlines() == [
        "main: no scored window waits",
        "main: Need 1 more trajectories",
        f"job 1 train main {HOUR},{NEXT}: queued",
        "main: Need new scores, or `rlfleet jobs requeue 1`: job 1 failed on what waits",
    ]


def test_continuous_waits_for_a_database_that_is_away(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    import tasks.requests

    add_scored(add_line(readiness=EAGER), HOUR, 1.0)
    look = tasks.requests.train_when_ready
    slept: list[int] = []

    def away(line: str, **given: Any) -> object:
        if len(slept) < 2:
            raise DatabaseUnavailable("the server went away")
        return look(line, **given)

    def sleep(_: float) -> None:
        slept.append(1)
        if len(slept) == 3:
            raise InvalidInput("clock", 3, "stop here")

    monkeypatch.setattr("tasks.requests.train_when_ready", away)
    monkeypatch.setattr("fleet.train_cli.time.sleep", sleep)
    result = train("--mode", "continuous")
    assert result.stderr.count("main: the server went away; looking again") == 2
    assert result.stdout == f"job 1 train main {HOUR}: queued\n"


def test_what_does_not_go_together_is_refused(train: Train) -> None:
    add_window(add_line(), HOUR, "scored")
    assert "WINDOW_ID" in refused(train())
    assert "takes no window" in refused(train(HOUR, "--since", "2025-01-15", "--mode", "backfill"))
    assert "are for mode backfill" in refused(train(HOUR, "--every", "2"))
    assert "write a UTC time" in refused(train("--since", "yesterday"))
    assert train("--mode", "weekly").exit_code == 2


@pytest.mark.parametrize(
    ("name", "value"), [("MODE", "production"), ("BACKFILL_HOURS", "0"), ("POLL_INTERVAL", "often")]
)
def test_a_variable_that_cannot_be_used_is_named(
    train: Train, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    result = train(HOUR)
    assert isinstance(result.exception, InvalidSettings)
    assert (result.exception.field, result.exception.value) == (name, value)


def test_a_dry_run_of_nothing_ends_with_1(train: Train) -> None:
    add_line()
    result = train("--dry-run", "--json")
    assert (result.exit_code, as_json(result.stdout)["trajectories"]) == (1, [])
    assert rows("select 1 from rlfleet.jobs") == []


def test_the_job_is_the_one_that_a_service_would_have_asked_for(train: Train) -> None:
    from tasks.requests import request

    add_window(add_line(), HOUR, "scored")
    asked = request(HOUR)
    assert train(HOUR).stdout.startswith(f"job {asked} train")
    assert job(asked).state == "queued"
