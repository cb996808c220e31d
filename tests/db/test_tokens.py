from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from db import tokens
from db.session import transaction
from rl.errors import InvalidInput

pytestmark = pytest.mark.usefixtures("fresh")


def made(name: str = "ann", role: tokens.Role = "operator", days: float | None = None) -> str:
    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    with transaction() as session:
        return tokens.create(session, name, role, "root@shell", expires)


def holder(token: str) -> tokens.Holder | None:
    with transaction() as session:
        return tokens.holder_of(session, token)


def change(statement: str) -> None:
    with transaction() as session:
        session.execute(text(statement))


def test_a_token_has_a_shape_and_only_its_hash_is_stored() -> None:
    token = made()
    shape = tokens.SHAPE.fullmatch(token)
    assert shape is not None
    with transaction() as session:
        stored = session.execute(text("select id, sha256, to_jsonb(t)::text from rlfleet.tokens t")).one()
    assert (stored[0], stored[1]) == (int(shape[1]), hashlib.sha256(shape[2].encode()).hexdigest())
    assert shape[2] not in stored[2]


def test_who_holds_a_token_is_known_and_when_it_was_used() -> None:
    found = holder(made("ann", "viewer", days=1))
    assert found is not None
    assert (found.name, found.role, found.created_by, found.revoked_at) == ("ann", "viewer", "root@shell", None)
    assert (found.may("viewer"), found.may("operator")) == (True, False)
    with transaction() as session:
        (listed,) = tokens.listing(session)
    assert listed.used_at is not None
    assert listed.expires_at is not None


def test_use_is_written_down_once_a_minute() -> None:
    token = made()
    change("update rlfleet.tokens set used_at = now() - interval '30 seconds'")
    before = holder(token)
    change("update rlfleet.tokens set used_at = now() - interval '61 seconds'")
    holder(token)
    with transaction() as session:
        seconds = session.execute(text("select extract(epoch from now() - used_at) from rlfleet.tokens")).scalar_one()
        (after,) = tokens.listing(session)
    assert before is not None
    assert before.used_at is not None
    assert after.used_at is not None
    assert (float(seconds) < 30, after.used_at > before.used_at) == (True, True)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "rlf_1",
        "rlf_1_" + "A" * 43,
        "rlf_2_" + "A" * 43,
        "rlf_0_" + "A" * 43,
        "rlf_999999999999999999_" + "A" * 43,
        "rlf_9999999999999999999_" + "A" * 43,
        "rlf_\N{ARABIC-INDIC DIGIT ONE}_" + "A" * 43,
        "rlf_1_" + "A" * 43 + "\n",
        "\0",
        "\ud800",
    ],
)
def test_what_is_no_token_is_nobodys(wrong: str) -> None:
    made()
    assert holder(wrong) is None


def test_a_secret_counts_for_its_own_id_alone() -> None:
    ann, ben = made("ann"), made("ben")
    assert holder(ben.replace("rlf_2_", "rlf_1_")) is None
    assert holder(ann) is not None


@pytest.mark.parametrize("given", ["rlf_1_" + "A" * 43, "rlf_77_" + "A" * 43, "nonsense", ""])
def test_something_is_compared_in_constant_time_whatever_is_given(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made()
    compared: list[tuple[Any, Any]] = []
    real = hmac.compare_digest
    monkeypatch.setattr(tokens.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or real(a, b))
    assert holder(given) is None
    ((one, other),) = compared
    assert (len(one), len(other)) == (64, 64)


def test_a_token_that_has_expired_or_was_revoked_is_nobodys() -> None:
    ann, ben = made("ann", days=1), made("ben")
    assert holder(ann) is not None
    change("update rlfleet.tokens set expires_at = now() where name = 'ann'")
    assert holder(ann) is None
    with transaction() as session:
        assert tokens.revoke(session, "ben")
    assert holder(ben) is None


@pytest.mark.parametrize("name", ["", "-ann", "a b", "a" * 65, "ann\n", "\N{LATIN SMALL LETTER E WITH ACUTE}va", "a\0"])
def test_a_name_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="1 to 64 letters, digits"):
        made(name)


def test_a_name_has_one_token_at_a_time() -> None:
    made("ann@shop")
    with pytest.raises(InvalidInput, match="`rlfleet token revoke ann@shop`"):
        made("ann@shop")
    with transaction() as session:
        tokens.revoke(session, "ann@shop")
    again = holder(made("ann@shop", "viewer"))
    assert again is not None
    assert again.role == "viewer"
    with transaction() as session:
        assert [(one.name, one.revoked_at is None) for one in tokens.listing(session)] == [
            ("ann@shop", True),
            ("ann@shop", False),
        ]


def test_a_token_is_not_made_for_the_past_nor_for_a_role_that_is_none() -> None:
    with pytest.raises(InvalidInput, match="a moment in the future"):
        made(days=-1)
    with pytest.raises(InvalidInput, match="one of viewer, operator"):
        made(role="root")  # type: ignore[arg-type]
