from __future__ import annotations

import json

import pytest
import typer
from rich.console import Console
from sqlalchemy import text
from typer.testing import CliRunner

from db import trajectories
from db.session import transaction
from fleet.windows_cli import windows
from rl.errors import InvalidInput
from tests.conftest_database import *  # noqa: F403
from tests.conftest_database import empty
from tests.db.test_lineage import HOUR, NEXT, add_window, episode, fill, judged
from tests.db.trained import add_line

app = typer.Typer()
app.command()(windows)


@pytest.fixture
def runner(database: str, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:9/0")
    with transaction() as session:
        empty(session)
        fill(session)
        add_window(session, add_line(session), NEXT, [episode("d1"), episode("d2"), episode("e1")])
        trajectories.insert_scores(session, [judged("d1", 0.5), judged("d2", 1.0)])
        session.execute(text("update rlfleet.windows set reason = '[b]late' where name = :name"), {"name": NEXT})
        session.execute(text("update rlfleet.versions set created_at = now() - interval '6 hours'"))
    return CliRunner()


def test_a_table_and_the_readiness(runner: CliRunner) -> None:
    result = runner.invoke(app, [])
    assert result.exit_code == 0, result.output
    printed = result.stdout.splitlines()
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in printed if line.startswith("│")]
    assert cells == [
        [HOUR, "trained", "4", "3", "3", "2", "babylon-agent-v1.0.1", ""],
        [NEXT, "scored", "3", "2", "2", "0", "-", "[b]late"],
    ]
    assert printed[-1] == (
        "readiness: Need 98 more trajectories (2 scored, 1 not scored, 1 groups, 100.0% of the last 7 days' rows "
        "usable, 6.0 h since the last training)"
    )


def test_no_name_is_broken_on_a_narrow_terminal(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(width=80, force_terminal=True, color_system=None)
    monkeypatch.setattr("fleet.windows_cli.wide_console", lambda: screen)
    printed = runner.invoke(app, []).stdout.splitlines()
    assert max(map(len, printed[:-3])) <= 80
    assert sum(line.startswith((f"│ {HOUR} │", f"│ {NEXT} │")) for line in printed) == 2
    assert printed[-3:-1] == [f"{HOUR}: babylon-agent-v1.0.1", f"{NEXT}: [b]late"]


def test_a_version_that_the_reason_names_has_no_column(runner: CliRunner) -> None:
    with transaction() as session:
        row = {"told": "job 1 made babylon-agent-v1.0.1", "name": HOUR}
        session.execute(text("update rlfleet.windows set reason = :told where name = :name"), row)
    printed = runner.invoke(app, []).stdout.splitlines()
    cells = [[cell.strip() for cell in line.strip("┃│").split(line[0])] for line in printed if line[0] in "┃│"]
    assert cells[0] == ["window", "state", "trajectories", "groups", "scored", "quarantined", "reason"]
    assert cells[1] == [HOUR, "trained", "4", "3", "3", "2", row["told"]]


def test_one_object(runner: CliRunner) -> None:
    result = runner.invoke(app, ["--json"])
    found = json.loads(result.stdout)
    assert (result.exit_code, found["schema"], found["line"]) == (0, 1, "main")
    assert [(one["name"], one["state"], one["versions"]) for one in found["windows"]] == [
        (HOUR, "trained", ["babylon-agent-v1.0.1"]),
        (NEXT, "scored", []),
    ]
    ready, stats = found["readiness"], found["readiness"]["stats"]
    assert (ready["ready"], ready["reason"]) == (False, "Need 98 more trajectories")
    assert (stats["total"], stats["scored"], stats["unscored"], stats["trained"], stats["groups"]) == (3, 2, 1, 0, 1)


def test_an_unknown_line_is_wrong_input(runner: CliRunner) -> None:
    result = runner.invoke(app, ["--line", "other"])
    assert isinstance(result.exception, InvalidInput)
    assert "known lines: main" in str(result.exception)


def test_the_newest_and_how_many_there_are(runner: CliRunner) -> None:
    printed = runner.invoke(app, ["--limit", "1"]).stdout.splitlines()
    assert [line[2:18] for line in printed if line.startswith("│")] == [NEXT]
    assert printed[-2] == "these are the newest 1 of 2 windows; --limit 2 shows all"
    found = json.loads(runner.invoke(app, ["--limit", "1", "--json"]).stdout)
    assert ([one["name"] for one in found["windows"]], found["count"]) == ([NEXT], 2)
