from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis import Redis

import tasks
from db import job_views, jobs
from rl.errors import InvalidInput, MalformedWindow, UnknownWindow
from rl.windows import hour_of
from tasks.requests import daily_training, request
from tasks.ring import ring
from tests.tasks.conftest import HOUR
from tests.tasks.rows import EAGER, SFT, Sent, add_line, add_scored, add_window, job, messages, one, rows

pytestmark = pytest.mark.usefixtures("fresh")

AFTER = {
    "open": ["collect", "score", "train"],
    "closed": ["collect", "score", "train"],
    "collected": ["score", "train"],
    "scored": ["train"],
}


def chain() -> list[Any]:
    return rows("select id, kind, after from rlfleet.jobs order by id")


@pytest.mark.parametrize("state", AFTER)
def test_the_earlier_jobs_are_asked_for_too_each_after_the_one_before(state: str) -> None:
    add_window(add_line(source="jsonl:///agent.jsonl"), HOUR, state)
    train = request(HOUR)
    found = chain()
    assert [kind for _, kind, _ in found] == AFTER[state]
    assert [after for _, _, after in found] == [[], *([before] for before, _, _ in found[:-1])]
    assert found[-1][0] == train
    assert job(train).config == SFT.model_dump(mode="json")
    assert job(train).inputs == {"windows": [HOUR]}


def test_ten_requests_are_one_job() -> None:
    add_window(add_line(source="jsonl:///agent.jsonl"), HOUR, "closed")
    assert len({request(HOUR) for _ in range(10)}) == 1
    assert len(chain()) == 3


def test_requests_at_the_same_moment_are_one_job() -> None:
    add_window(add_line(source="jsonl:///agent.jsonl"), HOUR, "closed")
    barrier, answers = threading.Barrier(4), []

    def ask() -> None:
        barrier.wait()
        answers.append(request(HOUR))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4
    assert len(set(answers)) == 1
    assert len(chain()) == 3


def test_a_closed_hour_is_collected_at_once(broker: Redis) -> None:
    add_window(add_line(source="jsonl:///agent.jsonl"), HOUR, "closed")
    request(HOUR)
    (collect,) = ring()
    assert messages(broker) == {"collect": [Sent("rlfleet.collect", [collect])]}


def test_an_open_hour_is_not_collected_before_it_ends() -> None:
    hour = hour_of(datetime.now(UTC) + timedelta(hours=1))
    add_window(add_line(source="jsonl:///agent.jsonl"), hour.text, "open")
    request(hour.text)
    assert one("select kind, run_at from rlfleet.jobs order by id limit 1") == ("collect", hour.ends_at)
    assert ring() == []


def test_an_hour_that_only_the_source_knows_becomes_a_window(logs: str) -> None:
    add_line(source=logs)
    request(HOUR)
    assert one("select name, state from rlfleet.windows") == (HOUR, "closed")
    assert [kind for _, kind, _ in chain()] == AFTER["closed"]


def test_an_hour_that_the_source_knows_nothing_of_is_unknown(logs: str) -> None:
    add_line(source=logs)
    with pytest.raises(UnknownWindow):
        request("2025-01-15T11:00")
    assert rows("select 1 from rlfleet.windows") == []


@pytest.mark.parametrize("text", ["2025-01-15 10:00", "2025-01-15T10:30", "2025-02-30T10:00", "yesterday", "", 7, None])
def test_what_is_no_window_id_is_refused_before_anything_is_written(text: Any) -> None:
    add_line(source="jsonl:///agent.jsonl")
    with pytest.raises(MalformedWindow, match="write a UTC hour like 2025-01-15T10:00"):
        request(text)
    assert chain() == []


def test_an_unknown_window_is_told_the_newest_ones() -> None:
    line = add_line()
    for hour in range(4):
        add_window(line, f"2025-01-15T0{hour}:00", "scored")
    with pytest.raises(UnknownWindow) as caught:
        request("2025-01-15T09:00")
    newest = "2025-01-15T03:00, 2025-01-15T02:00, 2025-01-15T01:00"
    assert str(caught.value) == (
        f"window_id = '2025-01-15T09:00': no such window on this line; the newest are: {newest}"
    )


def test_an_unknown_line_is_told_the_known_ones() -> None:
    add_line("main")
    add_line("other")
    with pytest.raises(InvalidInput, match=r"^line = 'mian': no such line; known lines: main, other$"):
        request(HOUR, "mian")


def test_a_line_that_does_not_say_how_to_train_is_refused_and_nothing_stays() -> None:
    add_window(add_line(train=None, source="jsonl:///agent.jsonl"), HOUR, "closed")
    with pytest.raises(InvalidInput, match=r"line\.train = None: line 'main' does not say how to train"):
        request(HOUR)
    assert chain() == []


def test_a_line_without_a_source_cannot_collect() -> None:
    add_window(add_line(), HOUR, "closed")
    with pytest.raises(InvalidInput, match=r"line\.source = None: line 'main' has no source"):
        request(HOUR)


def test_the_task_answers_with_what_became_of_the_job() -> None:
    add_window(add_line(source="jsonl:///agent.jsonl"), HOUR, "closed")
    answers = {tasks.train_window(HOUR) for _ in range(3)}
    train = chain()[-1][0]
    assert answers == {f"job {train} train main {HOUR}: queued after job {train - 1}"}


def test_the_task_of_an_unknown_window_fails_with_words() -> None:
    add_line()
    with pytest.raises(UnknownWindow, match="none yet"):
        tasks.train_window(HOUR)


def test_a_failed_training_is_not_opened_again_by_asking() -> None:
    add_window(add_line(), HOUR, "scored")
    train = request(HOUR)
    claim = jobs.claim(train, "a test", 60)
    assert claim is not None
    jobs.fail(claim, "OffPolicyRefused: no", retry=False)
    assert request(HOUR) == train
    assert tasks.train_window(HOUR) == f"job {train} train main {HOUR}: failed (OffPolicyRefused: no)"


def test_daily_training_is_one_job_on_the_scored_hours_of_a_line_that_says_how() -> None:
    main, by_hand = add_line(readiness=EAGER), add_line("by-hand", automatic=False, readiness=EAGER)
    for line in (main, by_hand, add_line("untrained", train=None, readiness=EAGER)):
        add_scored(line, HOUR)
    add_window(main, "2025-01-15T11:00", "scored")
    add_window(main, "2025-01-15T12:00", "collected")
    (train,) = daily_training()
    summary = job_views.summary(train)
    assert summary is not None
    assert (summary.kind, summary.line, summary.inputs) == ("train", "main", {"windows": [HOUR, "2025-01-15T11:00"]})
    assert daily_training() == [], "both are being trained on"


def test_the_daily_tick_asks_and_rings(broker: Redis) -> None:
    add_scored(add_line(automatic=True, readiness=EAGER), HOUR)
    assert tasks.plan("train", 10**9) == "train: asked for 1, rang 1"
    assert [sent.task for sent in messages(broker)["gpu"]] == ["rlfleet.train"]
