"""Real workers, and what the table says of them."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery.signals import worker_init
from redis import Redis
from sqlalchemy import text

from db import workers
from db.session import transaction
from tasks import presence, rejections
from tasks.maintain import reconcile_once
from tasks.settings import alert_settings
from tests.tasks.real_worker import worker
from tests.tasks.rows import messages, one, rows, within_a_period
from tests.worker.doubles import wait_until
from worker.app import app

Away = Callable[[], AbstractContextManager[None]]


@pytest.fixture(autouse=True)
def _nobody_is_here() -> Iterator[None]:
    yield
    presence._present.clear()
    rejections._waiting.clear()


def blocked() -> bool:
    return bool(rows("select 1 from pg_locks where not granted and relation = 'rlfleet.schedule_slots'::regclass"))


def test_a_worker_is_there_from_its_start_to_the_begin_of_its_stop(fresh: str, broker: Redis, tmp_path: Path) -> None:
    with worker(tmp_path / "w.log", "score", "maint", name="both", RLFLEET_DRAIN_SECONDS="60") as process:
        (row,) = workers.listing()
        name = f"both@{socket.gethostname()}"
        assert (row.name, row.queues, row.concurrency, row.pid) == (name, ["maint", "score"], 1, process.pid)
        assert workers.capacity() == {"maint": 1, "score": 1}
        with transaction() as session:
            session.execute(text("lock table rlfleet.schedule_slots in access exclusive mode"))
            app.send_task("rlfleet.plan", ("late", 60))
            wait_until(blocked)
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: not workers.listing())
            assert process.poll() is None, "its task has 60 s to end"
        process.wait(60)
    assert workers.listing() == []


def test_a_worker_that_is_killed_leaves_a_row_that_ages(fresh: str, broker: Redis, tmp_path: Path) -> None:
    with worker(tmp_path / "w.log", "collect") as process:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert workers.capacity() == {"collect": 1}
    rows("update rlfleet.workers set seen_at = now() - interval '91 seconds' returning 1")
    assert workers.capacity() == {}
    reconcile_once()
    assert one("select name, subject from rlfleet.alerts") == ("worker_silent", f"test@{socket.gethostname()}")


class Timer:
    def __init__(self) -> None:
        self.repeated: list[tuple[float, Callable[..., Any], tuple[Any, ...]]] = []
        self.once: list[tuple[float, Callable[..., Any]]] = []

    def call_repeatedly(self, seconds: float, call: Callable[..., Any], args: tuple[Any, ...] = ()) -> None:
        self.repeated.append((seconds, call, args))

    def call_after(self, seconds: float, call: Callable[..., Any]) -> None:
        self.once.append((seconds, call))


def consumer() -> Any:
    queues = SimpleNamespace(queues=[SimpleNamespace(name="score")])
    pool = SimpleNamespace(num_processes=3)
    return SimpleNamespace(hostname="here@a", task_consumer=queues, pool=pool, timer=Timer())


def test_the_loop_never_waits_long_for_a_database_that_is_away(database_away: Away) -> None:
    here = consumer()
    rejections.on_unknown_task(here, SimpleNamespace(body=b"[]", headers={}), "rlfleet.x")
    started = time.monotonic()
    with database_away():
        presence.begin(here)
        here.timer.once[0][1]()
    assert time.monotonic() - started < 30
    ((seconds, call, args),) = here.timer.repeated
    assert seconds == 15
    call(*args)
    assert workers.capacity() == {"score": 3}
    counted = one("select reason, subject, count from rlfleet.rejections")
    assert tuple(counted) == ("unknown_task", "rlfleet.x", 1)
    presence.end()
    call(*args)
    assert workers.listing() == [], "a worker that stops does not announce itself again"


def test_what_is_rejected_while_the_database_is_away_is_added_up(database_away: Away) -> None:
    here = consumer()
    with database_away():
        for _ in range(3):
            rejections.on_unknown_task(here, None, "rlfleet.x")
            rejections._flush_if_possible()
    rejections.flush()
    assert one("select count from rlfleet.rejections").count == 3


def test_a_forked_process_leaves_its_parents_row(fresh: str) -> None:
    presence.begin(consumer())
    presence._present["here@a"] = os.getpid() + 1
    presence.end()
    assert [row.name for row in workers.listing()] == ["here@a"]


def test_looking_around_is_done_once_a_minute(fresh: str, broker: Redis) -> None:
    within_a_period(60)
    for name in ("a", "b"):
        workers.announce(name, ["score"], 1, "", 1)
        rows("update rlfleet.workers set seen_at = now() - interval '91 seconds' returning 1")
        reconcile_once()
    assert [row.subject for row in rows("select subject from rlfleet.alerts")] == ["a"]
    assert messages(broker) == {}


def test_no_worker_is_called_silent_just_after_whoever_looks_around_was_away(fresh: str, broker: Redis) -> None:
    workers.announce("a", ["score"], 1, "", 1)
    rows("update rlfleet.workers set seen_at = now() - interval '200 seconds' returning 1")
    rows(
        "insert into rlfleet.schedule_slots (name, slot_at, taken_at) "
        "select 'look-around', ago, ago from (select now() - interval '180 seconds' as ago) a returning 1"
    )
    reconcile_once()
    assert rows("select subject from rlfleet.alerts") == []
    rows(
        "update rlfleet.schedule_slots set slot_at = slot_at - interval '60 seconds', taken_at = now() - "
        "interval '60 seconds' where name = 'look-around' and slot_at > now() - interval '100 seconds' returning 1"
    )
    reconcile_once()
    assert [row.subject for row in rows("select subject from rlfleet.alerts")] == ["a"]


def test_a_signal_in_the_middle_of_a_report_leaves_the_good_bye_to_it(
    fresh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = consumer()
    presence.begin(here)
    asked: list[int] = []

    def interrupted(*values: Any) -> None:
        asked.append(1)
        announce(*values)
        presence.end()
        assert [row.name for row in workers.listing()] == ["here@a"]

    announce = workers.announce
    monkeypatch.setattr(workers, "announce", interrupted)
    presence.report(here)
    assert (asked, workers.listing()) == ([1], [])
    presence.report(here)
    assert asked == [1], "it does not announce itself again"


def test_a_signal_in_the_middle_of_counting_does_not_count_too(fresh: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from db import rejections as counted

    def interrupted(*values: Any) -> None:
        rejections.flush()
        count(*values)

    count = counted.count
    monkeypatch.setattr(counted, "count", interrupted)
    for name in ("rlfleet.x", "rlfleet.y"):
        rejections.on_unknown_task(consumer(), None, name)
    rejections.flush()
    assert [row.count for row in rows("select count from rlfleet.rejections")] == [1, 1]


def test_a_worker_does_not_start_with_settings_of_alerts_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    alert_settings.cache_clear()
    monkeypatch.setenv("RLFLEET_ALERT_WEBHOOK", "secret.example")
    with pytest.raises(SystemExit, match=r"this worker does not start: .*RLFLEET_ALERT_WEBHOOK") as refused:
        worker_init.send(sender=None)
    assert "secret.example" not in str(refused.value)
