from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from db import prune, sessions, tokens
from db.session import transaction

pytestmark = pytest.mark.usefixtures("fresh")


def begun(name: str = "ann", days: float | None = None) -> str:
    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    with transaction() as session:
        holder = tokens.holder_of(session, tokens.create(session, name, "operator", "root@shell", expires))
        assert holder is not None
        return sessions.start(session, holder.token_id)


def name(value: str) -> str | None:
    """For whom a browser with the value is signed in."""
    with transaction() as session:
        found = sessions.holder_of(session, value)
        return None if found is None else found.name


def ended(value: str) -> int | None:
    with transaction() as session:
        return sessions.ended(session, value)


def change(statement: str) -> None:
    with transaction() as session:
        session.execute(text(statement))


def test_only_the_hash_of_a_session_is_stored() -> None:
    value = begun()
    shape = sessions.SHAPE.fullmatch(value)
    assert shape is not None
    with transaction() as session:
        stored = session.execute(text("select id, sha256, to_jsonb(s)::text from rlfleet.sessions s")).one()
    assert (stored[0], stored[1]) == (int(shape[1]), hashlib.sha256(shape[2].encode()).hexdigest())
    assert shape[2] not in stored[2]
    assert name(value) == "ann"


@pytest.mark.parametrize(("days", "hours"), [(None, 12.0), (1.0, 12.0), (0.25, 6.0)])
def test_it_ends_after_a_working_day_and_no_later_than_its_token(days: float | None, hours: float) -> None:
    begun(days=days)
    with transaction() as session:
        left = session.execute(text("select extract(epoch from expires_at - now()) from rlfleet.sessions")).scalar_one()
    assert hours * 3600 - 120 < float(left) <= hours * 3600


def test_each_is_ended_alone() -> None:
    with transaction() as session:
        tokens.create(session, "ann", "operator", "root@shell")
        one, other = sessions.start(session, 1), sessions.start(session, 1)
        assert sessions.end(session, one)
        assert not sessions.end(session, one)
        assert not sessions.end(session, other[:-1] + ("a" if other[-1] != "a" else "b"))
    assert [name(one), name(other)] == [None, "ann"]
    assert [ended(one), ended(other)] == [1, None]


@pytest.mark.parametrize(
    "over",
    [
        "update rlfleet.tokens set revoked_at = now()",
        "update rlfleet.tokens set expires_at = now()",
        "update rlfleet.sessions set expires_at = now()",
    ],
)
def test_it_ends_with_its_token_and_its_time(over: str) -> None:
    value = begun()
    change(over)
    assert (name(value), ended(value)) == (None, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "rls_1",
        "rls_1_" + "A" * 43,
        "rls_9_" + "A" * 43,
        "rlf_1_" + "A" * 43,
        "rls_0_" + "A" * 43,
        "\ud800",
        "x" * 9999,
    ],
)
def test_what_is_no_session_is_nobodys_and_compared_all_the_same(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begun()
    compared: list[Any] = []
    compare = hmac.compare_digest
    monkeypatch.setattr(sessions.hmac, "compare_digest", lambda *two: bool(compared.append(two)) or compare(*two))
    assert (name(wrong), ended(wrong)) == (None, None)
    assert [len(both[0]) for both in compared] == [64, 64]


def test_sessions_that_are_long_over_are_pruned() -> None:
    values = [begun(name) for name in ("ann", "ben", "cleo")]
    for number, days in enumerate((8, 6), 1):
        change(f"update rlfleet.sessions set expires_at = now() - interval '{days} days' where id = {number}")  # noqa: S608
    assert prune.old_rows()["sessions"] == 1
    assert [ended(value) for value in values] == [None, 2, None]
    assert [name(value) for value in values] == [None, None, "cleo"]
