"""The circuit breaker where it acts: the reconciler pauses, and nothing of that kind is rung or claimed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from db import jobs, pauses
from tasks import settings as task_settings
from tasks.maintain import reconcile_once
from tests.tasks.rows import Sent, add_line, asked, messages, rows

pytestmark = pytest.mark.usefixtures("fresh")


@pytest.fixture(autouse=True)
def _two_deaths_are_enough(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RLFLEET_PAUSE_DEAD", "2")
    task_settings.alert_settings.cache_clear()
    yield
    task_settings.alert_settings.cache_clear()


def die(job_id: int) -> None:
    rows(
        "update rlfleet.jobs set state = 'dead', error = 'ChildLost: it exited with -9', finished_at = now() "
        "where id = :id returning 1",
        id=job_id,
    )


def claim(job_id: int) -> bool:
    return jobs.claim(job_id, "a test", 60) is not None


def test_a_kind_that_keeps_dying_is_not_rung_and_not_claimed_until_it_is_resumed(broker: Redis) -> None:
    line = add_line()
    for _ in range(2):
        die(asked(line))
    waiting, other = asked(line), asked(line, kind="decide")
    assert reconcile_once() == "took back 0, rang 1, paused score"
    assert messages(broker) == {"score": [Sent("rlfleet.decide", [other])]}
    assert reconcile_once() == "took back 0, rang 0"
    assert not claim(waiting), "also a message that was on its way, or a caller's own"

    pauses.resume("score")
    assert reconcile_once() == "took back 0, rang 1"
    assert claim(waiting)
    names = [tuple(row) for row in rows("select name, subject from rlfleet.alerts where name = 'kind_paused'")]
    assert names == [("kind_paused", "score")]


def test_one_that_died_is_no_reason(broker: Redis) -> None:
    line = add_line()
    die(asked(line))
    waiting = asked(line)
    assert reconcile_once() == "took back 0, rang 1"
    assert claim(waiting)


def test_settings_of_alerts_that_cannot_be_used_stop_no_ringing(
    broker: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RLFLEET_PAUSE_DEAD", "two")
    line = add_line()
    for _ in range(2):
        die(asked(line))
    waiting = asked(line)
    assert reconcile_once() == "took back 0, rang 1"
    assert messages(broker) == {"score": [Sent("rlfleet.score", [waiting])]}
    assert "RLFLEET_PAUSE_DEAD" in caplog.text
    assert rows("select 1 from rlfleet.schedule_slots where name = 'look-around'") != []
