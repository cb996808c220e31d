"""An effect and the row of the audit about it are there together, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest
from redis import Redis

from db import audit, lines, pauses
from db.session import dispose, transaction
from rl.errors import DatabaseUnavailable
from tasks import ring
from tests.admin.world import Api, audited
from tests.db import trained
from tests.tasks import rows


def test_nothing_is_done_that_the_audit_cannot_say(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    note = audit.note

    def full(*given: Any, **more: Any) -> None:
        if given[4] == "done":
            raise DatabaseUnavailable("the disk is full")
        note(*given, **more)

    monkeypatch.setattr(audit, "note", full)
    assert api.post("pauses/score/pause", 503, reason="the judge is down")["success"] is False
    assert pauses.paused() == []
    assert audited() == [("otto", "pause", "score", "failed")]


@pytest.fixture
def gone(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody can speak to the database any more from the moment that something is to be rung, until ``come_back``."""

    def first(act: Callable[..., list[int]]) -> Callable[..., list[int]]:
        def acts(*given: Any, **more: Any) -> list[int]:
            allow(database, False)
            return act(*given, **more)

        return acts

    for name in ("ring", "advance"):
        monkeypatch.setattr(ring, name, first(getattr(ring, name)))
    yield
    come_back(database, monkeypatch)


def allow(database: str, connections: bool) -> None:
    url = urlsplit(database)
    name = url.path.removeprefix("/")
    with closing(psycopg2.connect(urlunsplit(url._replace(path="/postgres")))) as server:
        server.autocommit = True
        with server.cursor() as cursor:
            cursor.execute(f"alter database {name} with allow_connections {str(connections).lower()}")
            if not connections:
                cursor.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,))


def come_back(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(database, True)
    dispose()
    monkeypatch.undo()


def test_a_database_that_goes_away_before_the_ring_does_not_make_it_undone(
    api: Api, broker: Redis, database: str, gone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = rows.add_line(readiness=rows.EAGER)
    rows.add_scored(line, "2025-01-15T10:00", 1.0)
    job = rows.asked(line)
    rows.rows("update rlfleet.jobs set state = 'dead' returning 1")
    done = api.post(f"jobs/{job}/requeue")
    assert (done["before"], done["state"]) == ("dead", "queued")
    assert "the database did not answer" in done["remark"]
    allow(database, True)
    dispose()
    training = int(api.post("training/trigger")["jobId"])
    come_back(database, monkeypatch)
    assert rows.messages(broker) == {}
    states = rows.rows("select id, state from rlfleet.jobs order by id")
    assert [tuple(one) for one in states] == [(job, "queued"), (training, "queued")]
    assert audited() == [("otto", "requeue job", str(job), "done"), ("otto", "train", "main", "done")]
    assert sorted(ring.ring()) == [job, training]


def test_a_run_whose_database_goes_away_before_the_ring_is_finished(
    api: Api, database: str, gone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with transaction() as session:
        line = trained.add_line(session)
        base = trained.add_version(session, line, state="ready")
        trained.release(session, base)
        lines.start_run(session, line.id, trained.run_config(), base.id)
    done = api.post("runs/demo/finish")
    assert (done["state"], done["rang"]) == ("running", [])
    assert "the database did not answer" in done["remark"]
    come_back(database, monkeypatch)
    assert rows.one("select finishing from rlfleet.runs")[0] is True
    assert audited() == [("otto", "finish run", "demo", "done")]


def test_without_a_broker_what_was_asked_for_is_done_all_the_same(api: Api, broker_away: None) -> None:
    with transaction() as session:
        line = trained.add_line(session)
        base = trained.add_version(session, line, state="ready")
        trained.release(session, base)
        lines.start_run(session, line.id, trained.run_config(), base.id)
    pauses.pause("score", "the judge is down")
    for path in ("runs/demo/finish", "pauses/score/resume"):
        assert "the broker did not take the message" in api.post(path)["remark"]
    assert (rows.one("select finishing from rlfleet.runs")[0], pauses.paused()) == (True, [])
    assert [outcome for *_, outcome in audited()] == ["done", "done"]
