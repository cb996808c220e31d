from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from db import lines, window_pages
from db.session import transaction
from fleet import cli, reproduce
from fleet.forget_cli import _plain
from fleet.terminal import NO_FLEET
from rl.errors import InvalidInput, StartError, TransientError
from tests.conftest_database import *  # noqa: F403
from tests.conftest_database import empty
from tests.db.kept import HOUR, add_line, everything, frozen, job, left, old, removed, run, version


@pytest.fixture
def runner(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:9/0")
    monkeypatch.setenv("RLFLEET_ARTIFACTS", str(tmp_path))
    with transaction() as session:
        empty(session)
    return CliRunner()


def forget(runner: CliRunner, *words: str, answer: str | None = None) -> Result:
    return runner.invoke(cli.app, ["forget", *words], input=answer)


def trained(tmp_path: Path) -> tuple[int, int, str, Path]:
    """A job, its dataset, its version, and the file that its child read."""
    job_id, dataset = frozen(old("a", "b"))
    path = tmp_path / f"jobs/{job_id}/fence-1/dataset.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    return job_id, dataset, version(job_id).name, path


def test_what_went_and_what_was_made_of_it_is_said(runner: CliRunner, tmp_path: Path) -> None:
    _, dataset, name, path = trained(tmp_path)
    waiting, _ = frozen(1, "queued")
    result = forget(runner, "alice", "--yes")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "erased of agent alice: 1 judgement, 2 explanations, 2 feedback, 2 outcomes, 2 call keys, 2 calls, 2 turns, "
        "2 trajectories",
        f"marked: dataset {dataset}",
        f"marked: version {name}",
        f"jobs whose next attempt freezes its dataset anew: {waiting}",
        "dataset files removed: 1",
    ]
    assert (path.exists(), left()) == (False, set())
    again = forget(runner, "alice", "--yes")
    assert (again.exit_code, again.stdout) == (0, "no agent alice is known; nothing was erased\n")


def test_one_object(runner: CliRunner, tmp_path: Path) -> None:
    _, dataset, name, path = trained(tmp_path)
    before = everything()
    dry = json.loads(forget(runner, "alice", "--dry-run", "--json").stdout)
    assert (everything(), path.exists()) == (before, True)
    done = json.loads(forget(runner, "alice", "--yes", "--json", "--line", "main").stdout)
    assert done == {
        "schema": 1,
        "agent": "alice",
        "line": "main",
        "dry_run": False,
        "erased": {
            "judgements": 1,
            "explanations": 2,
            "feedback": 2,
            "outcomes": 2,
            "call keys": 2,
            "calls": 2,
            "turns": 2,
            "trajectories": 2,
        },
        "datasets": [dataset],
        "versions": [name],
        "frozen_anew": [],
        "files": 1,
        "collecting": [],
    }
    assert dry == done | {"dry_run": True, "files": 0, "line": None}


@pytest.mark.parametrize(
    ("name", "one"),
    [("trajectories", "trajectory"), ("call keys", "call key"), ("feedback", "feedback"), ("datasets", "dataset")],
)
def test_one_of_something_is_no_plural(name: str, one: str) -> None:
    assert (_plain(name, 1), _plain(name, 2)) == (one, name)


def test_without_a_fleet_no_servers_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("RLFLEET_HOME", str(tmp_path / "home"))
    result = forget(CliRunner(), "alice", "--yes")
    assert isinstance(result.exception, StartError)
    assert str(result.exception) == NO_FLEET
    assert not (tmp_path / "home").exists()


def test_a_person_is_asked_first(runner: CliRunner, tmp_path: Path) -> None:
    trained(tmp_path)
    refused = forget(runner, "alice", answer="n\n")
    assert (refused.exit_code, left()) == (1, {"a", "b"})
    assert forget(runner, "alice", answer="y\n").exit_code == 0
    assert left() == set()


def test_a_program_cannot_be_asked(runner: CliRunner) -> None:
    result = forget(runner, "alice", "--json")
    assert isinstance(result.exception, InvalidInput)
    assert "give --yes, or --dry-run" in str(result.exception)


@pytest.mark.parametrize(
    ("words", "said"), [([" "], "name an agent"), (["alice", "--line", "other", "--yes"], "known lines: none yet")]
)
def test_wrong_words_are_wrong_input(runner: CliRunner, words: list[str], said: str) -> None:
    result = forget(runner, *words)
    assert isinstance(result.exception, InvalidInput)
    assert said in str(result.exception)


def test_a_collection_that_goes_on_is_named_after_the_work(runner: CliRunner, tmp_path: Path) -> None:
    trained(tmp_path)
    job_id = job("collect", "running", window="2025-01-15T11:00")
    result = forget(runner, "alice", "--yes", "--json")
    assert isinstance(result.exception, TransientError)
    assert str(result.exception).startswith(f"job {job_id} began to collect before")
    assert (json.loads(result.stdout)["collecting"], left()) == ([job_id], set())


def test_a_version_of_erased_trajectories_cannot_be_trained_again(runner: CliRunner, tmp_path: Path) -> None:
    _, dataset, name, _ = trained(tmp_path)
    forget(runner, "alice", "--yes")
    at = run("select to_char(erased_at at time zone 'UTC', 'YYYY-MM-DD') from rlfleet.datasets")[0]
    said = rf"dataset = {dataset}: some of its trajectories were erased at {at}T.*Z, because .*{name} cannot be"
    with pytest.raises(InvalidInput, match=said):
        reproduce._read(name, "main")
    shown = runner.invoke(cli.app, ["explain", name]).stdout
    assert f"{dataset} sha256" in shown
    assert f"some erased {at}" in shown
    assert f"a: erased {at}" in shown
    assert "trajectories it learned from were erased" in shown


def test_a_version_of_removed_windows_cannot_be_trained_again(runner: CliRunner, tmp_path: Path) -> None:
    name = trained(tmp_path)[2]
    run("update rlfleet.versions set state = 'rejected'")
    removed()
    with pytest.raises(InvalidInput, match=r"its trajectories were removed by retention at \d{4}-.*Z"):
        reproduce._read(name, "main")
    shown = runner.invoke(cli.app, ["explain", name]).stdout
    assert "a: removed by retention" in shown
    assert "some erased" not in shown


def test_windows_say_that_retention_removed_them(runner: CliRunner) -> None:
    old("a")
    removed()
    at = run("select to_char(removed_at at time zone 'UTC', 'YYYY-MM-DD') from rlfleet.windows")[0]
    with transaction() as session:
        line = lines.named(session, "main")
        (reason,) = [one["reason"] for one in window_pages.newest(session, line.id, 9)[0]]
        assert reason == f"removed before all of it was trained on; removed by retention on {at}"
        add_line(session)
    run("update rlfleet.windows set reason = 'job 1 made v1'")
    shown = runner.invoke(cli.app, ["explain", HOUR]).stdout
    assert f"{HOUR} skipped (job 1 made v1; removed by retention on {at}): 0 trajectories" in shown
