"""Folders as training leaves them, with the rows that name them."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from redis import Redis

import tasks
from tests.tasks.rows import add_line, asked, messages, rows

pytestmark = pytest.mark.usefixtures("fresh")

DAY = 86_400.0


@pytest.fixture
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RLFLEET_ARTIFACTS", str(tmp_path / "artifacts"))
    return tmp_path / "artifacts"


def ended(line: int, state: str = "dead", days_ago: float = 8) -> int:
    job = asked(line, kind="train")
    lease = "now() + interval '1 hour'" if state == "running" else "null"
    rows(
        f"update rlfleet.jobs set state = :state, lease_until = {lease}, "  # noqa: S608 - words of this file
        "finished_at = now() - make_interval(secs => :ago) "
        "where id = :id returning id",
        state=state,
        ago=days_ago * DAY,
        id=job,
    )
    return job


def folder(path: Path, days_old: float = 30, content: str = "weights.bin") -> Path:
    path.mkdir(parents=True)
    (path / content).write_text("x")
    for one in (path / content, path, path.parent):
        os.utime(one, (time.time() - days_old * DAY,) * 2)
    return path


def left(artifacts: Path) -> set[str]:
    return {str(path.relative_to(artifacts / "jobs")) for path in (artifacts / "jobs").rglob("*") if path.is_dir()}


def test_what_lost_attempts_left_goes_and_what_rows_name_stays(artifacts: Path) -> None:
    line = add_line()
    won, dead, young, running = (
        ended(line, "succeeded"),
        ended(line, "dead"),
        ended(line, "dead", days_ago=6),
        ended(line, "running"),
    )
    for job in (won, dead, young, running, 777):
        for fence in (1, 2):
            folder(artifacts / f"jobs/{job}/fence-{fence}/step-000004")
    fresh = folder(artifacts / f"jobs/{dead}/fence-3", days_old=6)
    rows(
        "insert into rlfleet.checkpoints (job_id, fence, step, kind, uri, base_uri, sha256, metrics) values "
        "(:job, 2, 4, 'full', :uri, :uri, '', '{}') returning id",
        job=won,
        uri=f"{artifacts}/jobs/{won}/fence-2/step-000004",
    )
    assert tasks.prune().endswith("0 rejections, 0 call_failures, 0 sessions, 3 folders")
    kept = {f"{job}/fence-{fence}" for job in (young, running, 777) for fence in (1, 2)} | {f"{won}/fence-2"}
    kept |= {str(fresh.relative_to(artifacts / "jobs"))}
    assert (
        left(artifacts)
        - {path for path in left(artifacts) if path.endswith("step-000004")}
        - {str(job) for job in (won, dead, young, running, 777)}
        == kept
    )
    assert (artifacts / f"jobs/{won}/fence-2/step-000004/weights.bin").exists()
    assert tasks.prune().endswith("0 folders")


def test_a_job_whose_last_folder_went_has_no_folder(artifacts: Path) -> None:
    job = ended(add_line())
    folder(artifacts / f"jobs/{job}/fence-1/step-000001")
    os.utime(artifacts / f"jobs/{job}/fence-1", (time.time() - 30 * DAY,) * 2)
    tasks.prune()
    assert left(artifacts) == set()
    assert artifacts.exists()


def test_saved_states_go_when_their_job_is_over_and_its_row_forgets_them_first(artifacts: Path) -> None:
    line = add_line()
    paths = {}
    jobs = {}
    for state, days in (("succeeded", 0), ("dead", 8), ("dead", 3), ("queued", 9), ("running", 9)):
        jobs[state, days] = job = ended(line, state, days)
        paths[state, days] = folder(artifacts / f"jobs/{job}/fence-1/state-000004", days_old=0)
        rows(
            "update rlfleet.jobs set resume = jsonb_build_object('path', cast(:path as text)) "
            "where id = :id returning id",
            path=str(paths[state, days]),
            id=job,
        )
    tasks.prune()
    assert {key for key, path in paths.items() if path.exists()} == {("dead", 3), ("queued", 9), ("running", 9)}
    named = rows("select id from rlfleet.jobs where resume is not null order by id")
    assert [row[0] for row in named] == [jobs[key] for key in (("dead", 3), ("queued", 9), ("running", 9))]


def test_a_checkpoint_that_was_given_up_goes_and_what_lies_beside_it_stays(artifacts: Path) -> None:
    job = ended(add_line(), "succeeded", days_ago=0)
    steps = [folder(artifacts / f"jobs/{job}/fence-1/step-00000{step}", days_old=0) for step in (2, 4, 6)]
    for step, path in zip((2, 4, 6), steps, strict=True):
        rows(
            "insert into rlfleet.checkpoints (job_id, fence, step, kind, uri, base_uri, sha256, metrics, removed_at) "
            "values (:job, 1, :step, 'full', :uri, '/base', '', '{}', case when :step = 4 then now() end) returning id",
            job=job,
            step=step,
            uri=str(path),
        )
    assert tasks.prune().endswith("0 rejections, 0 call_failures, 0 sessions, 1 folders")
    assert [path.exists() for path in steps] == [True, False, True]
    assert tasks.prune().endswith("0 rejections, 0 call_failures, 0 sessions, 0 folders")


def test_a_checkpoint_that_a_later_attempt_wrote_again_goes(artifacts: Path) -> None:
    line = add_line()
    job, young = ended(line, "succeeded"), ended(line, "succeeded", days_ago=6)
    for one in (job, young):
        for fence, steps in ((1, (2, 4, 6)), (2, (4, 6))):
            for step in steps:
                folder(artifacts / f"jobs/{one}/fence-{fence}/step-00000{step}")
        for fence, step, removed in ((1, 2, None), (2, 4, "2025-01-15"), (2, 6, None)):
            rows(
                """
                insert into rlfleet.checkpoints
                       (job_id, fence, step, kind, uri, base_uri, sha256, metrics, removed_at)
                values (:job, :fence, :step, 'adapter', :uri, '/base', '', '{}', cast(:removed as timestamptz))
                returning id
                """,
                removed=removed,
                job=one,
                fence=fence,
                step=step,
                uri=f"/moved/jobs/{one}/fence-{fence}/step-00000{step}",
            )
    unnamed = folder(artifacts / f"jobs/{job}/fence-1/step-000008")
    tasks.prune()
    kept = {f"{job}/fence-1/step-000002", f"{job}/fence-2/step-000006", str(unnamed.relative_to(artifacts / "jobs"))}
    found = {one for one in left(artifacts) if "step" in one}
    assert {one for one in found if one.startswith(f"{job}/")} == kept
    assert f"{young}/fence-1/step-000004" in found


def test_temporaries_of_a_day_ago_go_but_never_those_of_a_running_job(artifacts: Path) -> None:
    line = add_line()
    dead, running = ended(line, "dead", 2), ended(line, "running")
    old = folder(artifacts / f"jobs/{dead}/fence-1/.step-000004.11.writing", days_old=2)
    young = folder(artifacts / f"jobs/{dead}/fence-1/.step-000008.11.writing", days_old=0.5)
    held = folder(artifacts / f"jobs/{running}/fence-1/.step-000004.12.writing", days_old=2)
    assert tasks.prune().endswith("1 folders")
    assert [path.exists() for path in (old, young, held)] == [False, True, True]


def test_nothing_but_attempts_is_looked_at_and_links_are_not_followed(artifacts: Path, tmp_path: Path) -> None:
    job = ended(add_line())
    elsewhere = folder(tmp_path / "elsewhere/fence-1")
    (artifacts / "jobs").mkdir(parents=True)
    (artifacts / f"jobs/{job}").mkdir()
    (artifacts / f"jobs/{job}/fence-1").symlink_to(elsewhere)
    strange = [
        folder(artifacts / f"jobs/{job}/notes"),
        folder(artifacts / "jobs/mine/fence-1"),
        folder(artifacts / "base"),
    ]
    assert tasks.prune().endswith("0 folders")
    assert elsewhere.joinpath("weights.bin").exists()
    assert all(path.exists() for path in strange)


def test_a_long_pass_goes_on_in_another_message(
    artifacts: Path, broker: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = add_line()
    for _ in range(3):
        folder(artifacts / f"jobs/{ended(line)}/fence-1")
    module = sys.modules["tasks.prune"]
    remove, clock = module._remove, [0.0]  # type: ignore[attr-defined]

    def slowly(path: Path) -> int:
        clock[0] += 15
        return int(remove(path))

    monkeypatch.setattr(module, "_remove", slowly)
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])  # type: ignore[attr-defined]
    assert tasks.prune().endswith("2 folders; more follow")
    monkeypatch.undo()
    monkeypatch.setenv("RLFLEET_ARTIFACTS", str(artifacts))
    assert [sent.task for sent in messages(broker)["maint"]] == ["rlfleet.prune"]
    assert tasks.prune().endswith("1 folders")


def test_two_beats_prune_once(artifacts: Path) -> None:
    assert [tasks.prune(10**9), tasks.prune(10**9)] == [
        "removed 0 schedule_slots, 0 deliveries, 0 alerts, 0 rejections, 0 call_failures, 0 sessions, 0 folders",
        "prune: this tick is taken",
    ]


def test_what_another_pass_removes_meanwhile_is_no_error(artifacts: Path) -> None:
    module = sys.modules["tasks.prune"]
    gone, held = artifacts / "jobs/7", folder(artifacts / "jobs/8/fence-1")
    assert module._remove(gone) == 1
    assert module._in(gone) == []
    assert module._is_older(gone, 1) is False
    for job in (gone, held.parent):
        module._remove_if_empty(job)
    assert held.exists()
