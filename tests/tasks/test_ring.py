from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pytest
from redis import Redis
from sqlalchemy import text

from db import dispatch, lines, workers
from db.session import transaction
from rl.errors import BrokerUnavailable
from tasks.ring import EXPIRY_SECONDS, advance, ring, waiting
from tests.conftest_database import add_version
from tests.db.trained import start_run
from tests.tasks.rows import Sent, add_line, add_window, asked, job, messages, rows

pytestmark = pytest.mark.usefixtures("fresh")


def test_what_is_due_is_rung_once(broker: Redis) -> None:
    line = add_line()
    score, train = asked(line), asked(line, kind="train", queue="gpu")
    assert sorted(ring()) == [score, train]
    assert messages(broker) == {"score": [Sent("rlfleet.score", [score])], "gpu": [Sent("rlfleet.train", [train])]}
    assert ring() == []


def test_a_ring_that_nobody_answers_expires_long_after_clocks_could_differ(broker: Redis) -> None:
    asked(add_line())
    ring()
    ((sent,),) = messages(broker).values()
    assert sent.expires is not None
    left = (sent.expires - datetime.now(UTC)).total_seconds()
    assert EXPIRY_SECONDS - 10 < left <= EXPIRY_SECONDS


def test_the_backlog_stays_in_postgres(broker: Redis) -> None:
    line = add_line()
    ids = [asked(line) for _ in range(10)]
    assert ring() == ids[:2], "no worker has announced itself"
    workers.announce("score1@here", ["score"], 2, "", 1)
    workers.announce("score2@here", ["score", "collect"], 1, "", 2)
    assert ring() == ids[2:6], "twice what the workers do at once"
    assert len(messages(broker)["score"]) == 6


def test_lost_messages_are_sent_again_and_waiting_ones_are_not(broker: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_RESEND_SECONDS", "5")
    line = add_line()
    ids = [asked(line) for _ in range(2)]
    assert ring(again=True) == ids
    assert waiting() == {"collect": 0, "gpu": 0, "maint": 0, "score": 2}
    with transaction() as session:
        session.execute(text("update rlfleet.jobs set last_sent_at = last_sent_at - interval '6 s'"))
    assert ring(again=True) == []
    broker.flushdb()
    assert ring() == []
    assert ring(again=True) == ids


def test_jobs_stay_due_while_the_broker_is_away(broker_away: None) -> None:
    line = add_line()
    ids = [asked(line) for _ in range(3)]
    with pytest.raises(BrokerUnavailable, match="did not take the message"):
        ring()
    assert [(job(one).state, job(one).last_sent_at) for one in ids] == [("queued", None)] * 3
    assert dispatch.due(60, {"score": 2}) == [(one, "score") for one in ids]


def test_only_what_was_not_sent_is_due_again(broker: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    from worker.app import app

    line = add_line()
    first, second = asked(line), asked(line, kind="train", queue="gpu")

    def refuse(*_: object, **__: object) -> None:
        raise BrokerUnavailable

    monkeypatch.setattr(app.tasks["rlfleet.train"], "apply_async", refuse)
    with pytest.raises(BrokerUnavailable):
        ring()
    assert messages(broker) == {"score": [Sent("rlfleet.score", [first])]}
    assert dispatch.due(60, {"score": 2}) == [(second, "train")]


def test_advancing_asks_for_what_is_missing_and_rings_it(broker: Redis) -> None:
    line = add_line(source="jsonl:///agent.jsonl", automatic=False)
    add_window(line, "2025-01-15T10:00", "closed")
    add_window(line, "2025-01-15T11:00", "collected")
    ids = advance()
    assert rows("select id, kind, inputs from rlfleet.jobs order by id") == [
        (ids[0], "collect", {"window": "2025-01-15T10:00"}),
        (ids[1], "score", {"window": "2025-01-15T11:00"}),
    ]
    assert advance() == []


def test_advancing_one_line_leaves_the_others(broker: Redis) -> None:
    for name in ("main", "other"):
        line = add_line(name, source="jsonl:///agent.jsonl", automatic=False)
        add_window(line, "2025-01-15T10:00", "closed")
    advance("other")
    assert rows("select l.name from rlfleet.jobs j join rlfleet.lines l on l.id = j.line_id") == [("other",)]


def test_one_look_opens_a_runs_round_and_has_it_played(broker: Redis) -> None:
    line = add_line()
    with transaction() as session:
        base = add_version(session, lines.named(session, "main"))
        start_run(session, base, rounds=1)
        session.execute(text("delete from rlfleet.windows"))
    advance("main")
    assert rows("select name, state from rlfleet.windows") == [("run/demo/0001", "closed")]
    due = rows("select kind, inputs from rlfleet.jobs where last_sent_at is not null and line_id = :line", line=line)
    assert ("collect", {"window": "run/demo/0001"}) in due


def test_a_kind_that_this_version_does_not_know_is_left_to_a_newer_one(
    broker: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    line = add_line()
    newer, known = asked(line, kind="distil", priority=1), asked(line)
    assert ring() == [known]
    assert messages(broker) == {"score": [Sent("rlfleet.score", [known])]}
    assert job(newer).last_sent_at is None
    assert f"jobs [{newer}] are of kinds that this version does not know" in caplog.text


def test_a_connection_that_was_cut_is_the_brokers_absence(broker: Redis, redis_url: str) -> None:
    waiting()
    broker.client_kill_filter(_type="normal", skipme=True)
    with contextlib.suppress(BrokerUnavailable):
        waiting()
    assert set(waiting().values()) == {0}
