from __future__ import annotations

import httpx

from db import audit, tokens
from db.session import transaction
from tests.admin.conftest import Client, token

STATUS = "/api/admin/training/status"
TRIGGER = "/api/admin/training/trigger"


def test_who_has_no_token_is_not_let_in(client: Client) -> None:
    answer = client().get(STATUS)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.json() == {
        "success": False,
        "error": "no token",
        "remedy": "send 'Authorization: Bearer TOKEN'; `rlfleet token create NAME` makes one",
    }
    assert client("rlf_1_" + "a" * 43).get(STATUS).status_code == 401
    assert client().post(TRIGGER, json={}).status_code == 401


def test_a_viewer_may_look_and_not_change(viewer: httpx.Client) -> None:
    answer = viewer.post(TRIGGER, json={})
    assert (answer.status_code, answer.json()["error"]) == (403, "vera is a viewer")


def test_a_revoked_token_is_nobodys(client: Client) -> None:
    given = token("ida", "operator")
    with transaction() as session:
        assert tokens.revoke(session, "ida")
        assert not tokens.revoke(session, "ida")
    assert client(given).get(STATUS).status_code == 401


def test_whoever_guesses_is_told_to_wait(client: Client) -> None:
    wrong, right = client("rlf_1_" + "b" * 43), client(token("uma", "viewer"))
    assert [wrong.get(STATUS).status_code for _ in range(11)] == [401] * 10 + [429]
    answer = right.get(STATUS)
    assert (answer.status_code, 1 <= int(answer.headers["retry-after"]) <= 6) == (429, True)


def test_what_is_refused_is_in_the_audit(operator: httpx.Client) -> None:
    answer = operator.post(TRIGGER, params={"line": "other"}, json={"force": True})
    assert answer.status_code == 400
    with transaction() as session:
        (entry,) = audit.listing(session)
    assert (entry.actor, entry.action, entry.subject, entry.outcome) == ("otto", "train", "other", "refused")
    assert entry.detail["force"] is True
