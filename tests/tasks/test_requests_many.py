"""One version of several windows, versions of all hours of a source, and what the daily training waits for."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

import tasks
from db import jobs, windows
from db.session import transaction
from rl.errors import InvalidInput
from rl.readiness import Thresholds
from rl.windows import WindowId, hour_of, parse
from sources.jsonl import JsonLines
from tasks.requests import backfill, daily_training, request, request_together, train_when_ready
from tests.tasks.conftest import HOUR, trajectory
from tests.tasks.rows import EAGER, add_line, add_scored, add_window, claimed, job, one, rows, within_a_period

pytestmark = pytest.mark.usefixtures("fresh")

HOURS = [f"2025-01-15T{hour}:00" for hour in ("10", "11", "12", "13", "14")]
ALL = datetime(2025, 1, 15, tzinfo=UTC), datetime(2025, 1, 16, tzinfo=UTC)


def source(folder: Path, *hours: str) -> str:
    """A source with two trajectories of one scenario in each hour."""
    path = folder / "agent.jsonl"
    lines = []
    for hour in hours:
        start = parse(hour).hour
        assert start is not None
        for number in range(2):
            row = trajectory(number).model_copy(update={"started_at": start, "ended_at": start})
            call = row.calls[0].model_copy(update={"call_id": f"{hour}/{number}/0"})
            lines.append(row.model_copy(update={"trajectory_id": f"{hour}/{number}", "calls": [call]}))
    path.write_text("".join(line.model_dump_json() + "\n" for line in lines))
    return f"jsonl://{path}"


def chain() -> list[Any]:
    return rows("select id, kind, inputs, after from rlfleet.jobs order by id")


def test_several_windows_are_one_job_after_what_each_of_them_wants() -> None:
    line = add_line(source="jsonl:///agent.jsonl")
    for name, state in zip(HOURS, ("scored", "collected", "closed"), strict=False):
        add_window(line, name, state)
    train = request_together([HOURS[2], HOURS[0], HOURS[1]])
    found = chain()
    assert [(kind, inputs.get("window")) for _, kind, inputs, _ in found] == [
        ("score", HOURS[1]),
        ("collect", HOURS[2]),
        ("score", HOURS[2]),
        ("train", None),
    ]
    assert (job(train).inputs, job(train).after) == ({"windows": HOURS[:3]}, [found[0].id, found[2].id])
    assert request_together(HOURS[:3]) == request_together([HOURS[0], *HOURS[:3]]) == train
    assert request(HOURS[1]) == train, "it is being trained on with the others"


def test_several_windows_of_which_one_was_skipped_is_not_there_or_is_a_round_are_refused() -> None:
    line = add_line()
    add_window(line, HOUR, "scored")
    add_window(line, HOURS[1], "skipped")
    run = one(
        "insert into rlfleet.runs (line_id, name, config, state) values (:l, 'demo', '{}', 'finished') returning id",
        l=line,
    )
    with transaction() as session:
        windows.ensure(session, line, parse("run/demo/0001"), state="scored", run_id=run.id)
    for name, why in (
        (HOURS[1], "it was skipped"),
        (HOURS[2], "no such window"),
        ("run/demo/0001", "trained on alone"),
    ):
        with pytest.raises(InvalidInput, match=why):
            request_together([HOUR, name])
    with pytest.raises(InvalidInput, match="name at least one window"):
        request_together([])
    assert chain() == []


def test_a_trained_window_is_trained_on_again_once_rows_came_late() -> None:
    line = add_line()
    window = add_scored(line, HOUR)
    first = request(HOUR)
    with transaction() as session:
        jobs.finish(session, claimed(first), lambda _: {})
        windows.move(session, window, "trained")
    assert request(HOUR) == first
    with transaction() as session:
        windows.reopen(session, window, "1 row came late")
        windows.move(session, window, "scored")
    second = request(HOUR)
    assert second != first
    assert job(second).inputs == {"windows": [HOUR], "again": {HOUR: 1}}
    assert request(HOUR) == second


def test_backfill_opens_the_hours_that_the_source_has_and_asks_for_all_of_it(tmp_path: Path) -> None:
    add_line(source=source(tmp_path, *HOURS[:2], HOURS[3]), automatic=False)
    (train,) = backfill("main", *ALL)
    assert rows("select name, state from rlfleet.windows order by name") == [
        (name, "closed") for name in (*HOURS[:2], HOURS[3])
    ]
    found = chain()
    assert [kind for _, kind, _, _ in found] == ["collect", "score"] * 3 + ["train"]
    assert job(train).inputs == {"windows": [*HOURS[:2], HOURS[3]]}
    assert job(train).after == [found[1].id, found[3].id, found[5].id]
    assert backfill("main", *ALL) == [train]
    assert len(chain()) == 7


def test_backfill_takes_the_hours_between_two_moments(tmp_path: Path) -> None:
    add_line(source=source(tmp_path, *HOURS))
    (train,) = backfill("main", datetime(2025, 1, 15, 11, tzinfo=UTC), datetime(2025, 1, 15, 13, tzinfo=UTC))
    assert job(train).inputs == {"windows": HOURS[1:3]}


def test_backfill_of_several_versions_takes_so_many_hours_for_each_in_their_order(tmp_path: Path) -> None:
    add_line(source=source(tmp_path, *HOURS))
    asked = backfill("main", *ALL, every=2)
    assert [job(one).inputs["windows"] for one in asked] == [HOURS[:2], HOURS[2:4], HOURS[4:]]
    assert backfill("main", *ALL, every=2) == backfill("main", *ALL) == asked


def test_backfill_leaves_out_hours_that_were_skipped_and_knows_those_that_were_trained(tmp_path: Path) -> None:
    line = add_line(source=source(tmp_path, *HOURS[:4]))
    add_window(line, HOURS[0], "skipped")
    trained = add_scored(line, HOURS[1])
    before = request(HOURS[1])
    with transaction() as session:
        jobs.finish(session, claimed(before), lambda _: {})
        windows.move(session, trained, "trained")
    assert [job(one).inputs["windows"] for one in backfill("main", *ALL)] == [[HOURS[1]], HOURS[2:4]]


def test_backfill_of_nothing_is_refused_with_the_reason(tmp_path: Path) -> None:
    within_a_period(3600)
    present = hour_of(datetime.now(UTC))
    add_line(source=source(tmp_path, HOUR, present.text))
    add_line("bare")
    later = datetime(2025, 1, 16, tzinfo=UTC)
    for line, since, until, why in (
        ("main", later, later + timedelta(hours=1), "has no row of an hour before .* that is over"),
        ("main", later, datetime.now(UTC) + timedelta(hours=1), "has no row of an hour"),
        ("main", later, later, "must be before until"),
        ("bare", *ALL, "no source to collect from"),
        ("mian", *ALL, "no such line"),
    ):
        with pytest.raises(InvalidInput, match=why):
            backfill(line, since, until)
    assert chain() == rows("select 1 from rlfleet.windows") == []


def test_a_backfill_is_done_by_the_tasks_as_they_are(tmp_path: Path) -> None:
    add_line(source=source(tmp_path, *HOURS[:2]), automatic=False)
    backfill("main", *ALL)
    for _, kind, _, _ in chain()[:-1]:
        queued = one(
            "select id from rlfleet.jobs where kind = :kind and state = 'queued' order by id limit 1", kind=kind
        )
        getattr(tasks, kind)(queued.id)
    assert rows("select name, state from rlfleet.windows order by name") == [(name, "scored") for name in HOURS[:2]]


FEW = Thresholds(min_trajectories=4, min_groups=2, min_quality=0.0, min_hours_between=0.0)


@pytest.mark.parametrize(
    ("rewards", "reason"),
    [
        (((1.0, 0.0), (1.0,)), "Need 1 more trajectories"),
        (((1.0, 0.0, 0.5), (1.0,)), "Need more scenario groups (1/2 minimum)"),
        (((1.0, 0.0), (1.0, 0.0)), None),
    ],
)
def test_the_daily_tick_asks_for_a_line_that_is_ready_and_says_why_not_else(
    rewards: Any, reason: str | None, broker: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    dpo = {"objective": "dpo", "steps": 1, "optimizer": {"learning_rate": 1e-3}}
    line = add_line(train=dpo, readiness=FEW)  # type: ignore[arg-type]
    for name, several in zip(HOURS, rewards, strict=False):
        add_scored(line, name, *several)
    with caplog.at_level(logging.INFO):
        said = tasks.plan("train", 10**9)
    if reason is None:
        assert said == "train: asked for 1, rang 1"
        assert [json.dumps(inputs) for _, _, inputs, _ in chain()] == [json.dumps({"windows": HOURS[:2]})]
    else:
        assert said == "train: asked for 0, rang 0"
        assert f"line main is not trained: {reason}" in caplog.text
        assert request(HOURS[0]) in [id for id, *_ in chain()], "a person's wish is not held back"


def test_what_a_queued_training_is_to_learn_from_makes_nothing_ready() -> None:
    line = add_line(readiness=EAGER.model_copy(update={"min_trajectories": 2}))
    add_scored(line, HOUR, 1.0, 0.0)
    assert len(daily_training()) == 1
    add_scored(line, HOURS[1], 1.0)
    asked, found = train_when_ready("main")
    assert asked == []
    assert found is not None
    assert (found.reason, found.stats.scored) == ("Need 1 more trajectories", 1)


def test_a_line_that_trains_only_when_asked_is_asked_by_name() -> None:
    line = add_line(automatic=False, readiness=EAGER)
    assert train_when_ready("main") == ([], None)
    add_scored(line, HOUR)
    assert daily_training() == []
    (asked,), found = train_when_ready("main")
    assert job(asked).inputs == {"windows": [HOUR]}
    assert found is not None
    assert found.ready


def test_a_backfill_of_which_one_hour_cannot_be_read_holds_up_none_of_the_others(tmp_path: Path) -> None:
    add_line(source=source(tmp_path, *HOURS[:2]), readiness=EAGER)
    (train,) = backfill("main", *ALL)
    ids = {(kind, inputs.get("window")): job_id for job_id, kind, inputs, _ in chain()}
    dead = ids["collect", HOURS[1]]
    for task, kind in ((tasks.collect, "collect"), (tasks.score, "score")):
        task(ids[kind, HOURS[0]])
    assert daily_training() == []
    jobs.fail(claimed(dead), "InvalidRow: no", retry=False)
    assert request(HOURS[1]) == train, "that one waits for it by right"

    (by_itself,) = daily_training()
    assert job(by_itself).inputs == {"windows": HOURS[:1]}
    assert request(HOURS[0]) == by_itself
    assert backfill("main", *ALL) == [train, by_itself]
    jobs.requeue(dead)
    tasks.collect(dead)
    tasks.score(ids["score", HOURS[1]])
    jobs.cancel(by_itself)
    assert jobs.claim(train, "a test", 60) is not None, "and goes on as before"


def test_a_source_is_asked_in_no_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_line(source=source(tmp_path, HOUR))
    holds, open_then = JsonLines.holds, []

    def watched(self: JsonLines, window: WindowId) -> bool:
        open_then.append(
            rows("select 1 from pg_stat_activity where datname = current_database() and state like 'idle in tr%'")
        )
        return holds(self, window)

    monkeypatch.setattr(JsonLines, "holds", watched)
    request(HOUR)
    assert open_then == [[]]
    request(HOUR)
    assert len(open_then) == 1, "its window is known"
