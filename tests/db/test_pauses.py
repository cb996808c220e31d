from __future__ import annotations

import secrets
from datetime import datetime

import pytest
from sqlalchemy import text

from db import dispatch, lines, pauses
from db.session import transaction
from rl.config import LineConfig

pytestmark = pytest.mark.usefixtures("fresh")


def died(kind: str = "train", number: int = 1, minutes_ago: float = 1, state: str = "dead") -> None:
    """Jobs of that kind that ended so long ago."""
    with transaction() as session:
        line = lines.put(session, "main", LineConfig(base_model="random-qwen3"))
        for _ in range(number):
            job = dispatch.request(session, dispatch.Spec(kind, line, {"n": secrets.token_hex(4)}, {}, "gpu"))
            session.execute(
                text("""
                    update rlfleet.jobs set state = :state, error = 'OutOfMemory: no room',
                           finished_at = now() - make_interval(secs => :ago) where id = :id
                """),
                {"state": state, "ago": minutes_ago * 60, "id": job},
            )


def of_alerts() -> list[tuple[str, str]]:
    with transaction() as session:
        rows = session.execute(text("select name, subject from rlfleet.alerts where name = 'kind_paused' order by id"))
        return [(name, subject) for name, subject in rows]


def test_a_kind_of_which_enough_died_lately_is_paused_once_and_told_once() -> None:
    died(number=4)
    assert pauses.pause_failing_kinds(5, 15) == []
    died()
    died("score", number=5, state="failed")
    died("decide", number=5, minutes_ago=16)
    assert pauses.pause_failing_kinds(5, 15) == ["train"]
    assert pauses.pause_failing_kinds(5, 15) == []
    (paused,) = pauses.paused()
    assert paused.kind == "train"
    assert paused.reason == "5 jobs died within 15 min; the last: OutOfMemory: no room"
    datetime.fromisoformat(paused.since)
    assert of_alerts() == [("kind_paused", "train")]


def test_a_resume_is_not_undone_by_the_deaths_before_it() -> None:
    died(number=5)
    pauses.pause_failing_kinds(5, 15)
    assert [pauses.resume("train"), pauses.resume("train")] == [True, False]
    assert pauses.pause_failing_kinds(5, 15) == []
    died(number=4, minutes_ago=0)
    assert pauses.pause_failing_kinds(5, 15) == []
    died(minutes_ago=-0.01)
    assert pauses.pause_failing_kinds(5, 15) == ["train"]


def test_a_person_pauses_without_an_alert() -> None:
    assert [pauses.pause("score", "moving the disks"), pauses.pause("score", "again")] == [True, False]
    assert [(one.kind, one.reason) for one in pauses.paused()] == [("score", "moving the disks")]
    assert of_alerts() == []
    died("score", number=5)
    assert pauses.pause_failing_kinds(5, 15) == []


def test_jobs_of_a_paused_kind_are_not_rung() -> None:
    with transaction() as session:
        line = lines.put(session, "main", LineConfig(base_model="random-qwen3"))
        ids = [dispatch.request(session, dispatch.Spec(kind, line, {}, {}, "score")) for kind in ("score", "decide")]
    pauses.pause("score", "a test")
    assert dispatch.due(60, {"score": 9}) == [(ids[1], "decide")]
    pauses.resume("score")
    assert dispatch.due(60, {"score": 9}) == [(ids[0], "score")]


def test_each_pause_is_told_of_however_soon_it_comes() -> None:
    died(number=2)
    assert pauses.pause_failing_kinds(2, 15) == ["train"]
    pauses.resume("train")
    died(number=2, minutes_ago=-0.01)
    assert pauses.pause_failing_kinds(2, 15) == ["train"]
    assert of_alerts() == [("kind_paused", "train")] * 2
