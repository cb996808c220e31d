"""A gateway whose login may do what ``rlfleet_gateway`` may, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from db import alerts, captured
from db.failures import NewFailure
from db.session import transaction
from rl.records import Quarantined
from tests.conftest_roles import member_of
from tests.gateway.conftest import World
from tests.gateway.test_consent import FEEDBACK, WORD, chat, collect, step
from tests.gateway.test_ingest_http import END, START, rows, send
from tests.planted import tables_with


def test_calls_are_answered_and_stored_and_reports_are_taken(world: World, database: str) -> None:
    world.release(0)
    world.engine(versions={world.names[0]})
    with member_of(database, "rlfleet_gateway"):
        client = world.gateway()
        assert client.get("/ready").status_code == 200
        answer = chat(client)
        assert (answer.status_code, answer.headers["X-Call-Id"]) == (200, "c1")
        assert answer.json()["model"] == world.names[0]
        assert chat(client, "c2", **{"X-Turn": "1"}).status_code == 200
        assert send(client, START, step(5), FEEDBACK, END)["rejected"] == []
        assert send(client, START, step(5))["rejected"] == []
        assert send(client, step(6) | {"reward": "much"})["rejected"] != []
    assert [call.call_id for call in world.calls()] == ["c1", "c2", "t1/5"]
    assert rows("select turn from rlfleet.turns") == [(5,)]
    assert rows("select value from rlfleet.feedback") == [(1.0,)]


AT = datetime(2026, 1, 2, tzinfo=UTC)
JUDGED = (
    """
    insert into rlfleet.judgements (request_sha256, judge, answer, prompt_tokens, completion_tokens, cost)
    values ('g', 'j', jsonb_build_object('said', cast(:said as text)), 0, 0, 0)
    """,
    """
    insert into rlfleet.scores (trajectory_id, method, method_version, input_hash, score, compared_in, explanation)
    values ('t1', 'judge', '1', 'h', 1, 'g', :said)
    """,
)


def test_what_is_captured_beside_calls_is_stored(world: World, database: str) -> None:
    failure = captured.of_failure(NewFailure("f1", "main", "v1", "answered 500", AT))
    bad = captured.of_quarantined("main", Quarantined(source="gateway", row="r1", field="messages", reason="too long"))
    with member_of(database, "rlfleet_gateway"):
        assert captured.store([failure, bad, captured.of_refusal("t9", "a1")]) == [True, True, True]
        assert raised()
    assert rows("select call_id from rlfleet.call_failures") == [("f1",)]
    assert rows('select "row" from rlfleet.quarantine') == [("r1",)]
    assert rows("select trajectory_id from rlfleet.recordings where consent is false") == [("t9",)]
    assert rows("select name from rlfleet.alerts") == [("capture_refused",)]


def raised() -> bool:
    with transaction() as session:
        return alerts.raise_alert(session, "capture_refused", "a spool", {})


@pytest.mark.parametrize("is_collected", [False, True])
def test_consent_that_is_refused_erases(world: World, database: str, is_collected: bool) -> None:
    world.release(0)
    world.engine(versions={world.names[0]})
    with member_of(database, "rlfleet_gateway"):
        client = world.gateway()
        assert chat(client).status_code == 200
        assert send(client, START, step(), FEEDBACK, END)["rejected"] == []
    assert world.count() == 2
    if is_collected:
        collect(world.line.id)
        with transaction() as session:
            for statement in JUDGED:
                session.execute(text(statement), {"said": WORD})
    with member_of(database, "rlfleet_gateway"):
        assert chat(world.gateway(), "c9", **{"X-Consent": "false"}).status_code == 200
    assert (world.count(), tables_with(WORD)) == (0, [])
