"""Rows that reach a real source after their window was read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import text

import tasks
from db import calls, jobs
from db.session import transaction
from rl.late import Policy
from sources.jsonl import JsonLines
from tasks.carry import Lease
from tasks.score import _work as score_work
from tests.tasks.conftest import HOUR, trajectory
from tests.tasks.late import (
    Log,
    ask,
    first_read,
    known,
    line_of,
    named_by_training,
    scores,
    stored,
    trained,
    window,
    work,
)
from tests.tasks.late import jobs as jobs_of
from tests.tasks.rows import claimed, one, rows

pytestmark = pytest.mark.usefixtures("fresh")

AGAIN = {"window": HOUR, "rows": 3}


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "agent.jsonl", 0, 1)


def look() -> str:
    return tasks.look_again.run()


def test_a_late_row_of_a_scored_window_is_stored_scored_and_nothing_else_changes(log: Log) -> None:
    line_of(log)
    first_read()
    before = scores()
    assert one("select rows_read from rlfleet.windows") == (2,)
    assert look() == "late: asked for 0, rang 0"
    log.append(trajectory(2))

    assert look() == "late: asked for 1, rang 1"
    work("collect")
    assert window() == ("collected", 1, "1 row came late")
    work("score")
    assert (stored(), window()[0]) == (["t0", "t1", "t2"], "scored")
    assert scores() == [*before, ("t2", 2.0)]
    assert jobs_of("collect") == [({"window": HOUR}, "succeeded"), (AGAIN, "succeeded")]
    assert jobs_of("score") == [({"window": HOUR}, "succeeded"), ({"window": HOUR, "again": 1}, "succeeded")]
    assert one("select rows_read from rlfleet.windows") == (3,)
    assert look() == "late: asked for 0, rang 0"


def test_a_late_row_of_a_window_whose_scoring_has_begun_gets_its_score_too(log: Log) -> None:
    line = line_of(log)
    ask()
    work("collect")
    assert window() == ("collected", 0, None)
    begun = claimed(one("select id from rlfleet.jobs where kind = 'score' and state = 'queued'")[0])
    effect = score_work(begun, Lease(begun, 60))
    log.append(trajectory(2))
    look()
    work("collect")
    with transaction() as session:
        jobs.finish(session, begun, effect)
    assert window(line) == ("collected", 1, "1 row came late"), "the scores of two are not those of three"
    work("score")
    assert [name for name, _ in scores()] == ["t0", "t1", "t2"]
    assert window(line)[0] == "scored"


@pytest.mark.parametrize(
    ("policy", "state", "jobs_asked"),
    [
        ("reopen", ("collected", 1, "1 row came late"), 2),
        ("extend", ("trained", 0, "made v1"), 1),
        ("ignore", ("trained", 0, "made v1"), 1),
    ],
)
def test_a_late_row_of_a_trained_window_by_each_policy(
    log: Log, policy: Policy, state: tuple[str, int, str], jobs_asked: int
) -> None:
    line = line_of(log, policy=policy)
    first_read()
    trained(line)
    log.append(trajectory(2))
    look()
    work("collect")
    assert window() == state
    assert len(jobs_of("collect")) == jobs_asked
    assert stored() == ["t0", "t1", "t2"][: jobs_asked + 1]


@pytest.mark.parametrize(("policy", "taken"), [("reopen", True), ("extend", True), ("ignore", False)])
def test_a_late_row_of_a_scored_window_by_each_policy(log: Log, policy: Policy, taken: bool) -> None:
    line_of(log, policy=policy)
    first_read()
    log.append(trajectory(2))
    look()
    work("collect")
    assert window()[0] == ("collected" if taken else "scored")
    assert stored() == (["t0", "t1", "t2"] if taken else ["t0", "t1"])


def test_rows_that_were_asked_for_before_the_training_are_not_added_after_it_under_extend(log: Log) -> None:
    line = line_of(log, policy="extend")
    first_read()
    log.append(trajectory(2))
    look()
    trained(line)
    work("collect")
    assert (window(), stored()) == (("trained", 0, "made v1"), ["t0", "t1"])
    assert one("select rows_read from rlfleet.windows") == (2,), "what was not taken is not counted as read"


def test_a_window_that_a_training_is_about_to_use_waits_for_the_next_look(log: Log) -> None:
    line = line_of(log)
    first_read()
    job = named_by_training(line)
    log.append(trajectory(2))
    assert look() == "late: asked for 0, rang 1", "the training is rung, and nothing is read"
    with transaction() as session:
        session.execute(
            text("update rlfleet.jobs set state = 'failed', finished_at = now() where id = :id"), {"id": job}
        )
    assert look() == "late: asked for 1, rang 1"


def test_a_window_that_was_skipped_for_want_of_rows_is_taken_up_when_they_come(log: Log) -> None:
    line_of(log)
    log.write()
    first_read()
    assert window() == ("skipped", 0, "no usable trajectory (0 quarantined)")
    log.append(trajectory(0), trajectory(1))
    look()
    work("collect", "score")
    assert window() == ("scored", 1, "2 rows came late")
    assert scores() == [("t0", 0.0), ("t1", 1.0)]


def test_a_row_that_is_there_twice_or_cannot_be_used_never_loops(log: Log) -> None:
    line = line_of(log)
    first_read()
    trained(line)
    log.append(trajectory(0))
    with log.path.open("a") as file:
        file.write("not JSON\n")
    for _ in range(3):
        look()
        work("collect")
    assert jobs_of("collect") == [({"window": HOUR}, "succeeded"), (AGAIN, "succeeded")]
    assert window() == ("trained", 0, "made v1"), "a reading that finds nothing new leaves it trained"
    assert stored() == ["t0", "t1"]
    assert rows("select count(*) from rlfleet.quarantine") == [(1,)]
    log.append(trajectory(2))
    look()
    work("collect")
    assert window() == ("collected", 1, "1 row came late"), "bad lines of a file are not counted as rows of the hour"


def test_a_row_whose_owner_refused_is_a_row_that_was_read(log: Log) -> None:
    """Also where the redaction withholds it: neither makes an hour be read a second time."""
    log.write(trajectory(0), trajectory(1).model_copy(update={"consent": False}))
    with log.path.open("a") as file:
        file.write("not JSON\n")
    line_of(log)
    first_read()
    assert one("select rows_read from rlfleet.windows") == (2,)
    assert look() == "late: asked for 0, rang 0"
    assert [inputs for inputs, _ in jobs_of("collect")] == [{"window": HOUR}]


def test_a_source_that_counts_what_it_does_not_give_is_read_once(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    line_of(log)
    first_read()
    monkeypatch.setattr(JsonLines, "hours", lambda *_: {HOUR: 7})
    for _ in range(3):
        look()
        work("collect")
    assert [inputs for inputs, _ in jobs_of("collect")] == [{"window": HOUR}, {"window": HOUR, "rows": 7}]
    assert one("select rows_read, state, again from rlfleet.windows") == (7, "scored", 0)


def test_only_windows_that_ended_within_the_hours_on_automatic_lines_are_looked_at(log: Log) -> None:
    line_of(log)
    first_read()
    log.append(trajectory(2))
    for change in ("'{automatic}', 'false'", "'{late,hours}', '72'"):
        before = one("select config from rlfleet.lines")[0]
        with transaction() as session:
            session.execute(text(f"update rlfleet.lines set config = jsonb_set(config, {change})"))  # noqa: S608
        assert look() == "late: asked for 0, rang 0"
        with transaction() as session:
            session.execute(text("update rlfleet.lines set config = cast(:c as jsonb)"), {"c": json.dumps(before)})
    assert look() == "late: asked for 1, rang 1"


def test_a_window_whose_trajectories_were_removed_is_left_alone_and_so_are_erased_ones(log: Log) -> None:
    line_of(log)
    log.write(known(0, {"won": True}), trajectory(1))
    first_read()
    with transaction() as session:
        session.execute(text("delete from rlfleet.outcomes"))
        session.execute(text("update rlfleet.trajectory_keys set erased_at = now() where trajectory_id = 't0'"))
        session.execute(text("delete from rlfleet.trajectories where trajectory_id = 't0'"))
    log.append(trajectory(2))
    look()
    work("collect")
    assert (stored(), rows("select 1 from rlfleet.outcomes")) == (["t1", "t2"], [])
    with transaction() as session:
        session.execute(text("update rlfleet.windows set removed_at = now()"))
    log.append(trajectory(3))
    assert look().startswith("late: asked for 0")


def test_calls_that_the_gateway_captured_come_beside_their_late_trajectory_once(log: Log) -> None:
    line_of(log)
    first_read()
    late = trajectory(2)
    captured = calls.NewCall.of(
        late.calls[0].model_copy(update={"prompt_token_ids": [1], "token_ids": [2], "logprobs": [-0.5]}),
        trajectory_id="t2",
        line="main",
        agent_id="a",
    )
    with transaction() as session:
        assert calls.insert(session, [captured]) == [True]
    log.append(late)
    look()
    work("collect")
    (found,) = rows(
        "select call_id, at = (select starts_at from rlfleet.windows), token_ids is not null"
        " from rlfleet.calls where trajectory_id = 't2'"
    )
    assert tuple(found) == ("t2/0", True, True)


def test_a_call_that_the_source_adds_to_a_stored_trajectory_changes_nothing(log: Log) -> None:
    line_of(log)
    first_read()
    first = trajectory(0)
    more = first.calls[0].model_copy(update={"call_id": "t0/1", "turn": 1})
    log.write(first.model_copy(update={"calls": [*first.calls, more]}), trajectory(1), trajectory(2))
    look()
    work("collect")
    assert [row[0] for row in rows("select call_id from rlfleet.calls order by 1")] == ["t0/0", "t1/0", "t2/0"]
