from __future__ import annotations

import json

import pytest
import typer
from sqlalchemy import text
from typer.testing import CliRunner

from db import trajectories
from db.session import transaction
from fleet.explain_cli import explain
from rl.errors import InvalidInput
from rl.records import Quarantined, utc
from tests.conftest_database import *  # noqa: F403
from tests.conftest_database import add_line, empty
from tests.db.test_lineage import HOUR, add_window, episode, fill, judged

app = typer.Typer()
app.command()(explain)


@pytest.fixture
def runner(database: str, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:9/0")
    monkeypatch.setenv("COLUMNS", "80")
    with transaction() as session:
        empty(session)
    return CliRunner()


def lines_of(runner: CliRunner, *words: str) -> list[str]:
    result = runner.invoke(app, words)
    assert result.exit_code == 0, result.output
    return [line.lstrip(" │├└─").rstrip() for line in result.stdout.splitlines()]


def test_a_version_as_a_tree(runner: CliRunner) -> None:
    with transaction() as session:
        version, dataset = fill(session)
        job, made, sha, since = (
            version.job_id,
            utc(version.created_at),
            session.scalar(text("select sha256 from rlfleet.datasets")),
            session.scalar(text("select created_at from rlfleet.releases where ended_at is null")),
        )
    assert sha is not None
    assert since is not None
    assert lines_of(runner, version.name) == [
        "version babylon-agent-v1.0.1 of line main",
        "version babylon-agent-v1.0.1: ready (better)",
        f"job {job} queued, attempt 0, fence 2, objective weighted_sft, {made}",
        "parent babylon-agent-v1.0.0, base random-qwen3",
        "checkpoint adapter of step 7, sha256 ffffffffffff: /adapter",
        f"dataset {dataset} sha256 {sha[:12]}: 3 trajectories in 2 groups, frozen {made} by job {job}",
        "windows",
        f"{HOUR} trained: 4 trajectories, 3 groups, 3 scored, 2 quarantined",
        "quarantined: 2",
        "2 reward: must be a number (0)",
        "left out: 2",
        "1 not scored, or below min_score",
        "1 too long",
        "decisions",
        "babylon-agent-v1.0.1 released over babylon-agent-v1.0.0: better (by counts)",
        "releases",
        f"babylon-agent-v1.0.1 stable 100 % {utc(since)} to now: released by a test",
        "trajectories: 3",
        f"group {HOUR} s/a judge group-a",
        *(trajectory(name, score, row) for name, score, row in (("a1", "0.25", 1), ("a2", "0.75", 2))),
        f"group {HOUR} s/b judge group-b",
        trajectory("b1", "1", 3),
    ]


def trajectory(name: str, score: str, row: int) -> str:
    how = f"by judge 1 (row {row}, judge gpt-4o-mini, rubric rrrrrrrrrrrr, cost 0.125)"
    return f"{name}: score {score} {how}; agent agent-{name}, spoken by gpt-4o, from jsonl:///logs"


def test_a_version_as_json(runner: CliRunner) -> None:
    with transaction() as session:
        version, dataset = fill(session)
    result = runner.invoke(app, [version.name, "--json"])
    found = json.loads(result.stdout)
    assert (result.exit_code, found["schema"], found["kind"], found["line"]) == (0, 1, "version", "main")
    assert [one["id"] for one in found["datasets"]] == [dataset]
    assert [one["score"] for one in found["trajectories"]] == [0.25, 0.75, 1.0]
    assert json.loads(runner.invoke(app, [str(dataset), "--json"]).stdout)["versions"] == found["versions"]


def test_the_first_twenty_unless_all_are_asked_for(runner: CliRunner) -> None:
    names = [f"a{n:02}" for n in range(23)]
    with transaction() as session:
        add_window(session, add_line(session), HOUR, [episode(one) for one in names])
        trajectories.insert_scores(session, [judged(one, 1.0) for one in names])
    assert lines_of(runner, HOUR)[-2:] == [trajectory("a19", "1", 20), "and 3 more; --all names them"]
    assert lines_of(runner, HOUR, "--all")[-1] == trajectory("a22", "1", 23)
    for flags, count in (((), 20), (("--all",), 23)):
        found = json.loads(runner.invoke(app, [HOUR, "--json", *flags]).stdout)
        assert (len(found["trajectories"]), found["trajectory_count"]) == (count, 23)


def test_kinds_of_bad_rows_that_are_not_named_are_counted(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("db.lineage.MOST", 1)
    with transaction() as session:
        line = add_line(session)
        window = add_window(session, line, HOUR, [])
        bad = [Quarantined(source="f", row=str(n), field="reward", reason=f"no {n // 2}") for n in range(3)]
        trajectories.insert_quarantine(session, line.id, window, bad)
    assert lines_of(runner, HOUR)[-4:-1] == [
        "quarantined: 3",
        "2 reward: no 0 (0)",
        "and 1 more; --all names them",
    ]
    assert lines_of(runner, HOUR, "--all")[-3:-1] == ["2 reward: no 0 (0)", "1 reward: no 1 (2)"]


def test_what_came_from_outside_is_no_markup(runner: CliRunner) -> None:
    with transaction() as session:
        add_window(session, add_line(session), HOUR, [episode("[red]a[/bold]")])
    assert lines_of(runner, HOUR)[-1] == (
        "[red]a[/bold]: no score; agent agent-[red]a[/bold], spoken by gpt-4o, from jsonl:///logs"
    )


def test_an_unknown_name_is_wrong_input(runner: CliRunner) -> None:
    result = runner.invoke(app, ["7"])
    assert isinstance(result.exception, InvalidInput)
    assert str(result.exception) == "dataset = '7': no such dataset; the newest are: none yet"
