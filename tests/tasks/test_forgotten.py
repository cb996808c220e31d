"""What an agent said does not come back from its source, and its files go with it."""

from __future__ import annotations

from pathlib import Path

import pytest

import tasks
from db import erasure, forgetting
from tasks.prune import dataset_files, remove_dataset_files
from tests.db.kept import everything, frozen, left, old, removed, run, set_state, version
from tests.tasks.conftest import HOUR, trajectory
from tests.tasks.rows import add_line, add_window
from tests.tasks.test_gather import collect, source

pytestmark = pytest.mark.usefixtures("fresh")

SECRET = "xyzzy-secret"


def nothing(_: object) -> int:
    return 0


def test_a_source_that_still_has_the_rows_does_not_bring_them_back(tmp_path: Path) -> None:
    line = add_line()
    add_window(line, HOUR, "closed")
    other = trajectory(1).model_copy(update={"agent_id": "bob"})
    mine = trajectory(0).model_copy(update={"metadata": {"note": SECRET, "outcome": {"later": SECRET}}})
    url = source(tmp_path / "agent.jsonl", mine, other)
    assert collect(line, HOUR, url)["new"] == 2
    assert SECRET in everything()
    forgetting.forget("a", None, nothing)
    again = collect(line, HOUR, url.replace("agent.jsonl", "./agent.jsonl"))
    assert (again["trajectories"], again["new"]) == (2, 0)
    assert run("select trajectory_id from rlfleet.trajectories") == ["t1"]
    assert run("select trajectory_id from rlfleet.calls") == run("select trajectory_id from rlfleet.turns") == ["t1"]
    assert SECRET not in everything()


@pytest.fixture
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RLFLEET_ARTIFACTS", str(tmp_path / "artifacts"))
    return tmp_path / "artifacts"


def written(artifacts: Path, job: int, fence: int = 1) -> Path:
    """The dataset file of an attempt, beside a checkpoint."""
    folder = artifacts / f"jobs/{job}/fence-{fence}"
    (folder / "step-000001").mkdir(parents=True)
    path = folder / "dataset.jsonl"
    path.write_text(SECRET)
    return path


def test_the_dataset_files_of_all_attempts_go_before_the_rows_do(artifacts: Path) -> None:
    job, _ = frozen(old("a"))
    paths = [written(artifacts, job, fence) for fence in (1, 2)]
    kept = written(artifacts, job + 1)
    done = forgetting.forget("alice", None, lambda jobs: remove_dataset_files(artifacts, jobs))
    assert (done.files, [path.exists() for path in (*paths, kept)]) == (2, [False, False, True])
    assert paths[0].with_name("step-000001").is_dir()


def test_prune_removes_dataset_files_of_what_was_erased_elsewhere_and_of_what_retention_removed(
    artifacts: Path,
) -> None:
    names = enumerate(("erased", "gone", "whole", "running"), start=14)
    erased, gone, whole, running = (frozen(old(name, window=f"2025-01-{day}T10:00"))[0] for day, name in names)
    version(whole)
    paths = {job: written(artifacts, job) for job in (erased, gone, whole, running)}
    run("update rlfleet.datasets set erased_at = now() where job_id = any(:jobs)", jobs=[erased, running])
    set_state(running, "running")
    answer = tasks.prune()
    assert "2 windows" in answer
    assert {job for job, path in paths.items() if path.exists()} == {whole, running}
    assert erasure.without_files([whole, running]) == set()


def test_prune_says_what_retention_removed(artifacts: Path) -> None:
    old("a", "b")
    assert tasks.prune() == (
        "removed 0 schedule_slots, 0 deliveries, 0 alerts, 0 rejections, 0 call_failures, 0 sessions, 1 windows, "
        "1 weeks, 2 call keys, 1 judgements, 2 explanations, 2 feedback, 2 outcomes, 0 folders"
    )
    assert left() == set()
    assert removed() == {}


def test_a_link_is_no_dataset_file(artifacts: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("x")
    path = written(artifacts, 1)
    path.unlink()
    path.symlink_to(elsewhere)
    assert dataset_files(path.parent) == []
    assert (remove_dataset_files(artifacts, [1, 99]), elsewhere.exists()) == (0, True)
