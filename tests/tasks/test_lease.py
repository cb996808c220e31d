from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import SimpleNamespace

import pytest

from db import jobs
from rl.errors import Cancelled, Fenced
from tasks import carry
from tasks.carry import Lease
from tests.tasks.rows import add_line, asked, claimed, job

pytestmark = pytest.mark.usefixtures("fresh")

Away = Callable[[], AbstractContextManager[None]]


def lease(seconds: float) -> Lease:
    """A lease of ``seconds`` on this machine's clock; the row's is longer, so that only the former counts."""
    return Lease(claimed(asked(add_line()), lease_seconds=60), seconds)


def test_beats_are_written_every_two_seconds_or_every_quarter_of_a_shorter_lease(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(carry, "time", SimpleNamespace(monotonic=lambda: now[0]))
    held = lease(60)
    held.beat({"step": 1})
    assert job(held.claim.job_id).progress is None, "2 s are not over"
    now[0] += carry.BEAT_SECONDS
    held.beat({"step": 2})
    held.beat({"step": 3})
    assert job(held.claim.job_id).progress == {"step": 2}

    short = Lease(held.claim, 1.0)
    now[0] += 0.25
    short.beat({"step": 4})
    assert job(held.claim.job_id).progress == {"step": 4}


def test_a_beat_without_progress_keeps_the_last_one() -> None:
    held = lease(0.0)
    held.beat({"step": 1})
    held.beat()
    assert job(held.claim.job_id).progress == {"step": 1}


def test_counting_says_how_much_is_done_and_how_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carry, "BEAT_SECONDS", 0.0)
    held = lease(60)
    held.count({"stage": "collect"})(object(), 3, 8)
    progress = job(held.claim.job_id).progress
    assert progress.pop("per_second") > 0
    assert progress == {"stage": "collect", "done": 3, "total": 8}


def test_the_holder_hears_of_a_request_to_cancel_and_of_the_end() -> None:
    held = lease(0.0)
    jobs.cancel(held.claim.job_id)
    with pytest.raises(Cancelled):
        held.beat()
    jobs.end_cancelled(held.claim)
    with pytest.raises(Fenced):
        held.beat()


def test_a_database_that_is_away_is_tolerated_until_the_lease_is_over(database_away: Away) -> None:
    held = lease(60)
    held._renewed -= 20  # the next beat is due
    started = time.monotonic()
    with database_away():
        held.beat({"step": 1})
        assert time.monotonic() - started < 30
        held._renewed -= 60
        with pytest.raises(Fenced, match=f"job {held.claim.job_id}: the lease ran out while the database was away"):
            held.beat({"step": 2})
    assert job(held.claim.job_id).progress is None


def test_a_database_that_comes_back_in_time_costs_nothing(database_away: Away) -> None:
    held = lease(60)
    held._renewed -= 30
    with database_away():
        for step in range(3):
            held.beat({"step": step})
    held.beat({"step": 3})
    assert job(held.claim.job_id).progress == {"step": 3}
    held._renewed -= 30
    with database_away():
        held.beat({"step": 4})
