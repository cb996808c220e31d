"""``rlfleet runs``, ``resume`` and ``finish`` on a real database; nothing is rung, as there is no broker."""

from __future__ import annotations

import json
import re

import pytest
import typer
from sqlalchemy import text
from typer.testing import CliRunner

import tasks.ring
from db import lines
from db.session import transaction
from fleet.run_cli import finish, resume, runs
from rl.config import EarlyStop
from rl.errors import InvalidInput
from tests.conftest_database import *  # noqa: F403
from tests.conftest_database import empty
from tests.db.test_runs import V, diverge, look, start, state_of

app = typer.Typer()
for command in (runs, resume, finish):
    app.command()(command)


@pytest.fixture
def runner(database: str, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:9/0")
    monkeypatch.setattr(tasks.ring, "advance", lambda line: [len(line)])
    with transaction() as session:
        empty(session)
    return CliRunner()


def test_without_runs_it_says_how_to_start_one(runner: CliRunner) -> None:
    result = runner.invoke(app, ["runs"])
    assert (result.exit_code, result.stdout) == (0, "no runs yet; `rlfleet run FILE.toml` starts one\n")


def test_a_run_that_waits_is_shown_with_the_way_on(runner: CliRunner) -> None:
    start(80, 82, 50, 81, early_stop=EarlyStop())
    look()
    result = runner.invoke(app, ["runs"])
    assert result.exit_code == 1
    reason = f"early stop at {V[3]}: 2 evaluated versions in a row did not improve on the best before"
    printed = result.stdout.splitlines()
    assert printed[0] == f"run demo on line main: paused, 3 of 6 rounds trained ({reason})"
    rows = [re.split(r"\s*│\s*", line.strip("│ ")) for line in printed if line.startswith("│")]
    assert [row[0] for row in rows] == V[:4]
    assert rows[1][2:4] == ["82/100", "0.8137"]
    assert rows[1][-1] == "best so far"
    assert rows[2][-1] == "FORGETTING"
    assert printed[-1] == f"waits: {reason}; `rlfleet resume demo` goes on, `rlfleet finish demo` decides"
    said = json.loads(runner.invoke(app, ["runs", "--json"]).stdout)
    assert (said["schema"], said["ok"]) == (1, False)
    (one,) = said["runs"]
    assert (one["run"], one["best"], one["early_stop"]["patience"]) == ("demo", V[1], 2)


def test_an_alarm_is_shown_before_anything_is_evaluated(runner: CliRunner) -> None:
    start(None, None)
    diverge()
    printed = runner.invoke(app, ["runs"]).stdout.splitlines()
    rows = [re.split(r"\s*│\s*", line.strip("│ ")) for line in printed if line.startswith("│")]
    assert [(row[0], row[-1] == "KL") for row in rows] == [(V[0], False), (V[1], True)]
    assert [line.split(":")[0] for line in printed if line.startswith("KL")] == [f"KL at {V[1]}"]


def test_what_is_not_compared_is_noted(runner: CliRunner) -> None:
    start(80, 82)
    with transaction() as session:
        last = "(select max(id) from rlfleet.evaluations)"
        session.execute(text(f"update rlfleet.verdicts set type = 'near' where evaluation_id = {last}"))  # noqa: S608
    notes = [line for line in runner.invoke(app, ["runs"]).stdout.splitlines() if line.startswith("note: ")]
    assert notes == [
        f"note: type gridworld is not compared between all: verdicts of it are 100 at {V[0]}, none at {V[1]}",
        f"note: type near is not compared between all: verdicts of it are 100 at {V[1]}, none at {V[0]}",
    ]


def test_a_person_has_it_go_on_or_end(runner: CliRunner) -> None:
    start(80, 82, 50, 81, early_stop=EarlyStop())
    look()
    assert runner.invoke(app, ["resume", "demo"]).stdout == "run demo: goes on; rang 1\n"
    assert state_of() == ("running", None)
    assert isinstance(runner.invoke(app, ["resume", "demo"]).exception, InvalidInput)
    assert runner.invoke(app, ["finish", "demo"]).stdout == "run demo: ends with what it has; rang 1\n"
    with transaction() as session:
        assert lines.run_named(session, "demo").finishing
        lines.end_run(session, lines.run_named(session, "demo").id, "finished", "better")
    error = runner.invoke(app, ["finish", "demo"]).exception
    assert str(error) == "run = 'demo': it is finished already: better"
