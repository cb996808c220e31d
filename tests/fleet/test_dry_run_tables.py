"""What a dry run says to people."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from sqlalchemy import text
from typer.testing import CliRunner

from db.session import transaction
from fleet.train_cli import train
from tests.fleet.dry import HOURS, asked, do, open_window, put, source
from tests.tasks.conftest import broker, database, database_url, fresh, postgres_url, redis_url

__all__ = ["broker", "database", "database_url", "fresh", "postgres_url", "redis_url"]

app = typer.Typer()
app.command()(train)


@pytest.fixture
def line(fresh: str, tmp_path: Path) -> int:
    """The line, with an hour that was scored and others that only the source knows of."""
    source(tmp_path)
    made = put(tmp_path)
    open_window(made, HOURS[0])
    do(asked(HOURS[0], "collect"))
    do(asked(HOURS[0], "score"))
    return made


def test_people_get_tables(line: int) -> None:
    result = CliRunner().invoke(app, [HOURS[0], "--dry-run"])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    cells = [[cell.strip() for cell in one.strip("│").split("│")] for one in lines if one.startswith("│")]
    assert [HOURS[0], "s", "10/s/0", "0.25", "reward"] in cells
    assert [HOURS[0], "alone", "10/alone/0", "1", "reward", "alone in its group"] in cells
    assert lines[-7:] == [
        "sums: 2 trajectories in 1 groups, 5 left out, about 12 tokens",
        "  3 its group has no variance: all 3 scores are 0.5",
        "  1 alone in its group",
        "  1 not scored",
        "objective: dpo, going on from the base model",
        "allowed on these trajectories",
        "the daily training waits for: Need 94 more trajectories",
    ]


def test_people_are_told_of_an_hour_that_was_not_opened(line: int) -> None:
    lines = CliRunner().invoke(app, [HOURS[3], "--dry-run"]).stdout.splitlines()
    cells = [[cell.strip() for cell in one.strip("│").split("│")] for one in lines if one.startswith("│")]
    assert cells[0][:3] == [HOURS[3], "not opened", "source"]


def test_people_are_told_that_nothing_is_left(line: int, tmp_path: Path) -> None:
    with transaction() as session:
        session.execute(text("delete from rlfleet.scores"))
    result = CliRunner().invoke(app, [HOURS[0], "--dry-run"])
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-2] == "no version would come of it: nothing is left"
