from __future__ import annotations

import secrets

import pytest
from sqlalchemy import text

from db import dispatch, lines, workers
from db.session import transaction
from rl.config import LineConfig

pytestmark = pytest.mark.usefixtures("fresh")


def seen(name: str, seconds_ago: float) -> None:
    with transaction() as session:
        session.execute(
            text("update rlfleet.workers set seen_at = now() - make_interval(secs => :ago) where name = :name"),
            {"ago": seconds_ago, "name": name},
        )


def queued(queue: str, minutes_ago: float, after: tuple[int, ...] = (), kind: str = "score") -> int:
    with transaction() as session:
        line = lines.put(session, "main", LineConfig(base_model="random-qwen3"))
        spec = dispatch.Spec(kind, line, {"n": secrets.token_hex(4)}, {}, queue, after=after)
        job = dispatch.request(session, spec)
        session.execute(
            text("update rlfleet.jobs set run_at = now() - make_interval(secs => :ago) where id = :id"),
            {"ago": minutes_ago * 60, "id": job},
        )
    return job


def alerts() -> list[tuple[str, str, dict[str, object]]]:
    with transaction() as session:
        rows = session.execute(text("select name, subject, detail from rlfleet.alerts order by id")).all()
    return [(name, subject, detail) for name, subject, detail in rows]


def test_capacity_is_what_the_workers_that_are_there_do_at_once() -> None:
    workers.announce("collect@a", ["collect"], 4, "", 10)
    workers.announce("both@b", ["collect", "score"], 2, "", 11)
    workers.announce("gone@c", ["gpu"], 1, "gpu0", 12)
    seen("gone@c", 61)
    assert workers.capacity() == {"collect": 6, "score": 2}
    workers.remove("both@b", 11)
    assert workers.capacity() == {"collect": 4}


def test_a_successor_of_the_same_name_starts_anew_and_is_not_removed_by_its_predecessor() -> None:
    workers.announce("gpu0@a", ["gpu"], 1, "gpu0", 10)
    with transaction() as session:
        session.execute(text("update rlfleet.workers set started_at = '2025-01-15T10:00:00Z'"))
    workers.announce("gpu0@a", ["gpu"], 1, "gpu0", 10)
    assert workers.listing()[0].started_at == "2025-01-15T10:00:00Z"
    workers.announce("gpu0@a", ["gpu"], 2, "gpu0", 11)
    workers.remove("gpu0@a", 10)
    (one,) = workers.listing()
    assert (one.pid, one.concurrency, one.silent_seconds < 60) == (11, 2, True)
    assert one.started_at > "2025-01-15T10:00:00Z"


def test_a_worker_that_fell_silent_is_told_of_once_and_forgotten_after_an_hour() -> None:
    for name, ago in (("here@a", 60), ("silent@b", 91), ("gone@c", 3601)):
        workers.announce(name, ["score"], 1, "", 10)
        seen(name, ago)
    assert workers.alert_silent() == ["gone@c", "silent@b"]
    assert [one.name for one in workers.listing()] == ["here@a", "silent@b"]
    assert workers.alert_silent() == []
    assert alerts()[1] == (
        "worker_silent",
        "silent@b",
        {"worker": "silent@b", "queues": ["score"], "device": "", "silent_seconds": pytest.approx(91 + 29, abs=29)},
    )


def test_a_due_job_that_waits_too_long_is_told_of_with_the_queues_capacity() -> None:
    first = queued("score", 61)
    queued("score", 70)
    queued("gpu", 59)
    queued("maint", 500, after=(first,))
    assert workers.alert_old_queues(3600, {"score": 2}) == ["score"]
    detail = {"queue": "score", "due": 2, "oldest_seconds": pytest.approx(4200 + 30, abs=30), "capacity": 2}
    assert alerts() == [("queue_old", "score", detail)]
    assert workers.alert_old_queues(3600, {}) == []


def test_waiting_begins_when_the_jobs_before_are_done_and_a_pause_is_no_waiting() -> None:
    before = queued("score", 500)
    queued("gpu", 500, after=(before,), kind="train")
    paused = queued("collect", 500, kind="collect")
    with transaction() as session:
        session.execute(
            text("update rlfleet.jobs set state = 'succeeded', finished_at = now() - interval '50 min' where id = :id"),
            {"id": before},
        )
        session.execute(text("insert into rlfleet.pauses (kind, reason) values ('collect', 'a test')"))
    assert paused
    assert workers.alert_old_queues(3600, {}) == []
    assert workers.alert_old_queues(2900, {}) == ["gpu"]


def looked_around(minutes: int) -> None:
    with transaction() as session:
        session.execute(
            text("""
                insert into rlfleet.schedule_slots (name, slot_at)
                select 'look-around', now() - make_interval(secs => 60 * n + 1) from generate_series(0, :minutes - 1) n
            """),
            {"minutes": minutes},
        )


def silent_beat(**capacities: int) -> bool:
    return workers.alert_silent_beat("collect", "look-around", 60, capacities)


def test_a_beat_that_is_silent_while_workers_look_around_is_told_of() -> None:
    looked_around(3)
    assert not silent_beat(maint=1), "the fleet has only just begun"
    with transaction() as session:
        session.execute(text("truncate rlfleet.schedule_slots"))
    looked_around(5)
    assert not silent_beat(), "there is no worker"
    assert [silent_beat(maint=1), silent_beat(maint=1)] == [True, False]


def test_a_beat_that_was_heard_is_not_told_of() -> None:
    looked_around(5)
    with transaction() as session:
        session.execute(
            text(
                "insert into rlfleet.schedule_slots (name, slot_at) values ('collect', now() - interval '240 seconds')"
            )
        )
    assert not silent_beat(maint=1)
