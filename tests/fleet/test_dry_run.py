"""What a dry run shows is what the training then does, and showing it changes no row."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from sqlalchemy import text
from typer.testing import CliRunner

from db import datasets, jobs, lines, recorded, trajectories, windows
from db.session import transaction
from fleet.dry_run import dry_run
from fleet.train_cli import train
from rl.errors import InvalidInput, MalformedWindow, UnknownWindow
from rl.scoring import by_reward
from tasks.requests import backfill, request, request_together
from tests.db.trained import add_version, start_run
from tests.fleet.dry import (
    EPISODES,
    HOURS,
    OPTIMIZER,
    USED,
    as_json,
    asked,
    do,
    do_all,
    episode,
    every_row,
    gpu_worker,
    open_window,
    put,
    release,
    source,
)
from tests.tasks.conftest import broker, database, database_url, fresh, postgres_url, redis_url

__all__ = ["broker", "database", "database_url", "fresh", "postgres_url", "redis_url"]

app = typer.Typer()
app.command()(train)


@pytest.fixture(scope="module", autouse=True)
def _gpu_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    yield from gpu_worker(tmp_path_factory.mktemp("state"))


@pytest.fixture
def line(fresh: str, tmp_path: Path) -> int:
    """The line, whose windows are: scored, collected, closed, and one that only the source knows of."""
    source(tmp_path)
    made = put(tmp_path)
    for hour in HOURS[:2]:
        open_window(made, hour)
        do(asked(hour, "collect"))
    do(asked(HOURS[0], "score"))
    open_window(made, HOURS[2])
    return made


def looked(*args: str) -> dict[str, Any]:
    """What a dry run prints; no row of any table is changed by it."""
    before = every_row()
    result = CliRunner().invoke(app, [*args, "--dry-run", "--json"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    assert every_row() == before
    return as_json(result.stdout) | {"exit_code": result.exit_code}


def reasons(found: dict[str, Any]) -> dict[str, str]:
    return {one["trajectory_id"]: one["reason"] for one in found["left_out"]}


def test_windows_in_every_state_are_seen_as_the_training_will_find_them(line: int) -> None:
    found = looked(*HOURS)
    assert [(one["window"], one["state"], one["read_from"], one["kept"]) for one in found["windows"]] == [
        (HOURS[0], "scored", "database", 2),
        (HOURS[1], "collected", "database", 2),
        (HOURS[2], "closed", "source", 2),
        (HOURS[3], "unknown", "source", 2),
    ]
    assert [one["trajectory_id"] for one in found["trajectories"]] == USED
    assert found["trajectories"][0] == {
        "trajectory_id": "10/s/0",
        "window": HOURS[0],
        "group": f"{HOURS[0]} s",
        "score": 0.25,
        "method": "reward",
    }
    assert {name.split("/")[1]: reason for name, reason in reasons(found).items()} == {
        "even": "its group has no variance: all 3 scores are 0.5",
        "alone": "alone in its group",
        "unknown": "not scored",
    }
    assert found["sums"]["reasons"] == {
        "its group has no variance: all 3 scores are 0.5": 12,
        "alone in its group": 4,
        "not scored": 4,
    }
    assert (found["objective"], found["allowed"], found["refused"], found["exit_code"]) == ("dpo", True, None, 0)
    assert found["sums"]["estimated_tokens"] == 8 * (len("red ball ahead") + len("go forward")) / 4
    assert found["readiness"]["reason"] == "Need 94 more trajectories"


def test_what_is_shown_is_what_the_training_freezes(line: int) -> None:
    shown = looked(*HOURS)
    job = request_together(HOURS)
    do_all()
    with transaction() as session:
        dataset = datasets.of_job(session, job)
        assert dataset is not None
        rows = datasets.rows_of(session, dataset.id)
        names = list(session.scalars(text("select name from rlfleet.versions")))
    assert [(one.group, one.trajectory_id, one.score) for one in rows] == [
        (one["group"], one["trajectory_id"], one["score"]) for one in shown["trajectories"]
    ]
    assert dataset.manifest["skipped"] == shown["sums"]["reasons"]
    assert names == ["babylon-agent-v1.0.0"]
    assert [one["trajectory_id"] for one in looked(HOURS[0])["trajectories"]] == ["10/s/0", "10/s/1"], "not released"
    release(line)
    again = looked(HOURS[0])
    assert {reasons(again)[f"10/s/{n}"] for n in (0, 1)} == {"already learned from by babylon-agent-v1.0.0"}
    assert (again["trajectories"], again["exit_code"]) == ([], 1)


def test_a_training_on_a_window_that_rows_were_added_to_takes_the_new_ones(line: int) -> None:
    first = request(HOURS[0])
    do_all()
    release(line)
    late = [episode(HOURS[0], "late", 0.0, 0), episode(HOURS[0], "late", 1.0, 1)]
    with transaction() as session:
        window = windows.named(session, line, HOURS[0])
        trajectories.insert_trajectories(session, line, window.id, "late", late)
        windows.reopen(session, window.id, "2 rows came late")
    shown = looked(HOURS[0])
    second = request(HOURS[0])
    assert second != first
    do_all()
    with transaction() as session:
        dataset, window = datasets.of_job(session, second), windows.named(session, line, HOURS[0])
        assert dataset is not None
        rows = [one.trajectory_id for one in datasets.rows_of(session, dataset.id)]
    assert rows == [one["trajectory_id"] for one in shown["trajectories"]] == ["10/late/0", "10/late/1"]
    assert (window.state, window.reason) == ("trained", f"job {second} made babylon-agent-v1.0.1")
    assert dataset.manifest["skipped"]["already learned from by babylon-agent-v1.0.0"] == 2


def test_a_training_that_finds_nothing_says_why_and_looks_again_when_it_is_queued_again(line: int) -> None:
    with transaction() as session:
        session.execute(text("delete from rlfleet.scores"))
    job = request(HOURS[0])
    do_all()
    with transaction() as session:
        state, error = session.execute(text("select state, error from rlfleet.jobs where id = :id"), {"id": job}).one()
        assert datasets.of_job(session, job) is None
    assert state == "failed"
    assert error == f"NoTrainingData: nothing to learn from in {HOURS[0]}: 7 not scored"
    with transaction() as session:
        scores = [by_reward(one.trajectory_id, one.reward) for one in EPISODES[HOURS[0]]]
        trajectories.insert_scores(session, scores)
    assert jobs.requeue(job)
    do(job)
    with transaction() as session:
        assert windows.named(session, line, HOURS[0]).state == "trained"


def test_a_backfill_is_shown_without_opening_a_window(line: int) -> None:
    shown = looked("--since", "2025-01-15T12:00", "--until", "2025-01-15T14:00")
    assert [one["window"] for one in shown["windows"]] == HOURS[2:]
    (job,) = backfill("main", datetime(2025, 1, 15, 12, tzinfo=UTC), datetime(2025, 1, 15, 14, tzinfo=UTC))
    do_all()
    with transaction() as session:
        dataset = datasets.of_job(session, job)
        assert dataset is not None
        rows = [one.trajectory_id for one in datasets.rows_of(session, dataset.id)]
    assert rows == [one["trajectory_id"] for one in shown["trajectories"]]


def test_without_a_window_it_shows_all_that_waits(line: int) -> None:
    assert [one["window"] for one in looked()["windows"]] == [HOURS[0]]
    request(HOURS[0])
    nothing = looked()
    assert (nothing["windows"], nothing["trajectories"], nothing["exit_code"]) == ([], [], 1)


@pytest.mark.parametrize("differs", [True, False], ids=["a group differs", "no group does"])
def test_an_objective_that_needs_our_own_calls_is_refused_in_the_trainings_words(
    line: int, tmp_path: Path, differs: bool
) -> None:
    put(tmp_path, {"objective": "grpo", "lora": {"rank": 4}, "optimizer": OPTIMIZER})
    if not differs:
        with transaction() as session:
            trajectories.insert_scores(session, [by_reward(f"10/s/{n}", 0.5) | {"input_hash": "x"} for n in (0, 1)])
    shown = looked(HOURS[0])
    assert (shown["allowed"], shown["goes_on_from"], shown["exit_code"]) == (False, None, 1)
    assert "was spoken by 'another-model' without log-probabilities" in shown["refused"]
    job = request(HOURS[0])
    do_all()
    with transaction() as session:
        error = session.execute(text("select error from rlfleet.jobs where id = :id"), {"id": job}).scalar_one()
    assert error == f"OffPolicyRefused: {shown['refused']}"


def test_a_judge_is_not_asked(line: int, tmp_path: Path) -> None:
    put(tmp_path, scoring={"method": "judge", "judge": {"model": "gpt-4o-mini"}})
    shown = looked(HOURS[1], HOURS[2])
    assert set(reasons(shown).values()) == {"would be asked: judge gpt-4o-mini"}
    assert (len(shown["left_out"]), shown["trajectories"], shown["exit_code"]) == (14, [], 0)


def test_a_rule_for_lone_ones_makes_a_group_of_them(line: int, tmp_path: Path) -> None:
    put(tmp_path, scoring={"lone": "batch_baseline"})
    source(tmp_path, episode(HOURS[2], "another", 0.0).model_dump_json())
    shown = looked(HOURS[2])
    assert [one["group"] for one in shown["trajectories"]] == [
        *[f"{HOURS[2]} lone"] * 2,
        *[f"{HOURS[2]} s"] * 2,
    ]


def test_rows_that_cannot_be_used_are_counted_by_reason(line: int, tmp_path: Path) -> None:
    refused = episode(HOURS[2], "refused", 1.0, consent=False)
    taken = EPISODES[HOURS[0]][0].model_copy(
        update={"ended_at": EPISODES[HOURS[2]][0].ended_at, "started_at": EPISODES[HOURS[2]][0].ended_at}
    )
    source(tmp_path, refused.model_dump_json(), taken.model_dump_json())
    (window,) = looked(HOURS[2])["windows"]
    assert window["quarantined"] == {"its owner refused consent": 1, "its id is another trajectory's, or was erased": 1}
    assert window["trajectories"] == 7


def test_what_agents_report_is_read_without_ending_an_episode(line: int, tmp_path: Path) -> None:
    put(tmp_path, source="recorded://main")
    with transaction() as session:
        session.execute(
            text("""
                insert into rlfleet.recordings (trajectory_id, line, agent_id, started_at, created_at)
                values ('left', 'main', 'a', now() - interval '3 days', now() - interval '3 days')
            """)
        )
    before = every_row()
    with pytest.raises(InvalidInput, match="has no row of an hour"):
        CliRunner().invoke(app, ["--since", "2025-01-01", "--dry-run"], catch_exceptions=False)
    with pytest.raises(UnknownWindow):
        dry_run("main", ["2025-01-20T10:00"])
    assert every_row() == before
    with transaction() as session:
        assert recorded.abandon(session, "main") == ["left"]


@pytest.mark.parametrize(
    ("name", "error", "why"),
    [
        ("2025-01-20T10:00", UnknownWindow, "no such window"),
        ("yesterday", MalformedWindow, "write a UTC hour"),
        ("run/demo/0001", UnknownWindow, "no such window"),
    ],
)
def test_a_window_that_is_not_there_is_named_and_not_opened(
    line: int, name: str, error: type[Exception], why: str
) -> None:
    before = every_row()
    with pytest.raises(error, match=why):
        dry_run("main", [HOURS[0], name])
    assert every_row() == before


def test_a_round_that_was_not_played_has_nothing_to_show(line: int) -> None:
    with transaction() as session:
        base = add_version(session, lines.named(session, "main"), state="ready")
        run = start_run(session, base, rounds=1)
        session.execute(text("update rlfleet.windows set state = 'closed' where run_id = :run"), {"run": run})
    shown = looked("run/demo/0001")
    assert [(one["state"], one["read_from"], one["reason"]) for one in shown["windows"]] == [
        ("closed", "nowhere", "it is to be played first")
    ]
    assert (shown["objective"], shown["goes_on_from"], shown["exit_code"]) == ("grpo", "babylon-agent-v1.0.0", 1)
