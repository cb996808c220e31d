from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import partial
from http.cookies import SimpleCookie
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text
from starlette.routing import Mount, Route

from admin import access
from admin.access import COOKIE
from admin.api import ROUTERS
from admin.app import create_app
from admin.limits import Limit
from admin.pages import PAGES
from admin.settings import AdminSettings
from db import audit, tokens
from db.session import transaction
from rl.errors import InvalidSettings
from tests.admin.conftest import Client, token
from tests.admin.world import serving
from tests.conftest_roles import login, member_of, speaking

STATUS = "/api/admin/training/status"
TRIGGER = "/api/admin/training/trigger"
PAGE = Path(__file__).parents[2] / "docs" / "admin.md"


@pytest.fixture
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the limits of servers that are made from now on no time passes."""
    monkeypatch.setattr(access, "Limit", partial(Limit, clock=lambda: 100.0))


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


def test_what_answers_without_a_token_is_on_the_page(client: Client) -> None:
    """Of all routes; a page sends to the form that asks for the token."""
    app, anybody, open_ones = create_app(), client(), set()
    routes = [one for router in (*ROUTERS, *PAGES) for one in router.routes]
    routes += [one for one in app.routes if isinstance(one, Route)]
    assert [one.path for one in app.routes if isinstance(one, Mount)] == ["/static"]
    for one in routes:
        assert isinstance(one, Route)
        for method in one.methods or ():
            answer = anybody.request(method, re.sub(r"{[^}]*}", "1", one.path))
            is_sent_away = answer.status_code == 303 and answer.headers["location"].startswith("/login?next=")
            open_ones |= set() if answer.status_code == 401 or is_sent_away else {one.path}
    assert len(routes) > 60
    (said,) = re.findall(r"Without one these answer: (.*?)\. ", PAGE.read_text().replace("\n", " "))
    assert open_ones | {"/static"} == set(re.findall(r"`(/[^`]*)`", said))
    assert anybody.get("/static/app.css").status_code == 200


def test_without_a_token_nothing_that_is_sent_is_looked_at(client: Client) -> None:
    sent = {"content": b"{", "headers": {"Content-Type": "application/json"}}
    assert client().post(TRIGGER, **sent).status_code == 401
    assert client().get("/api/admin/no-such-thing").status_code == 401
    assert client().get("/api/admin/jobs/0").status_code == 401
    assert client(token("olga", "operator")).post(TRIGGER, **sent).status_code == 422


def test_a_viewer_may_look_and_not_change(viewer: httpx.Client) -> None:
    answer = viewer.post(TRIGGER, json={})
    assert (answer.status_code, answer.json()["error"]) == (403, "vera is a viewer")


def test_a_revoked_token_is_nobodys(client: Client) -> None:
    given = token("ida", "operator")
    with transaction() as session:
        assert tokens.revoke(session, "ida")
        assert not tokens.revoke(session, "ida")
    assert client(given).get(STATUS).status_code == 401


def test_whoever_guesses_is_told_to_wait(stopped_clock: None, client: Client) -> None:
    wrong, right = client("rlf_1_" + "b" * 43), client(token("uma", "viewer"))
    assert [wrong.get(STATUS).status_code for _ in range(11)] == [401] * 10 + [429]
    answer = wrong.get(STATUS)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "6")
    assert right.get("/api/admin/lines").status_code == 200, "somebody else behind the same address"


def test_what_is_refused_is_in_the_audit(operator: httpx.Client) -> None:
    answer = operator.post(TRIGGER, params={"line": "other"}, json={"force": True})
    assert answer.status_code == 400
    with transaction() as session:
        (entry,) = audit.listing(session)
    assert (entry.actor, entry.action, entry.subject, entry.outcome) == ("otto", "train", "other", "refused")
    assert entry.detail["force"] is True


def test_a_server_that_may_not_read_tokens_is_not_well_and_tells_its_log_why(
    operator: httpx.Client, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    with member_of(database, "rlfleet_worker"):
        answer = operator.post(TRIGGER, params={"line": "other"}, json={})
        assert (answer.status_code, answer.json()["error"]) == (503, "the database refuses the admin server")
        assert "permission denied" not in answer.text
        assert "permission denied for table tokens" in caplog.text
        ready = operator.get("/ready")
        assert (ready.status_code, ready.json()["status"]) == (503, "unavailable")
        assert ready.json()["reason"].startswith("the login of DATABASE_URL may let nobody in: make it a member of")
    with login(database) as stranger, speaking(stranger):
        ready = operator.get("/ready")
        assert (ready.status_code, ready.json()["status"]) == (503, "unavailable")
        assert ready.json()["reason"].startswith("the database refuses the admin server: its log says")
    assert "permission denied for schema rlfleet" in caplog.text
    with member_of(database, "rlfleet_admin"):
        assert operator.get("/ready").json() == {"status": "ok", "reason": ""}
        assert operator.post(TRIGGER, params={"line": "other"}, json={}).status_code == 400
        with transaction() as session:
            assert [one.outcome for one in audit.listing(session)] == ["refused"]


def test_a_token_that_has_expired_is_nobodys(client: Client) -> None:
    with transaction() as session:
        given = tokens.create(session, "eve", "viewer", "a test", datetime.now(UTC) + timedelta(hours=1))
    assert client(given).get(STATUS).status_code == 400  # there is no line yet
    with transaction() as session:
        session.execute(text("update rlfleet.tokens set expires_at = now()"))
    assert client(given).get(STATUS).status_code == 401


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer"])
def test_the_scheme_is_read_in_any_case(client: Client, scheme: str) -> None:
    given = token("una", "viewer")
    answer = client().get("/api/admin/lines", headers={"Authorization": f"{scheme} {given}"})
    assert (answer.status_code, answer.json()) == (200, {"lines": []})


@pytest.mark.parametrize("header", ["Basic x", "Bearer", "Token rlf_1_x"])
def test_other_schemes_are_no_token(client: Client, header: str) -> None:
    answer = client().get("/api/admin/lines", headers={"Authorization": header})
    assert (answer.status_code, answer.json()["error"]) == (401, "no token")


def test_a_token_in_the_address_counts_for_nothing(client: Client) -> None:
    given = token("una", "viewer")
    assert client().get("/api/admin/lines", params={"token": given, "access_token": given}).status_code == 401


def test_each_holder_has_a_limit_of_their_own(fresh: str, broker: object, stopped_clock: None) -> None:
    with serving(RLFLEET_ADMIN_RATE="0.2") as api:  # ten seconds' worth are two at once
        statuses = [api.viewer.get("/api/admin/lines") for _ in range(3)]
        assert [one.status_code for one in statuses] == [200, 200, 429]
        assert statuses[2].headers["retry-after"] == "5"
        assert api.operator.get("/api/admin/lines").status_code == 200
        assert api.nobody.get("/live").status_code == 200


def test_behind_tls_the_cookie_is_sent_nowhere_else(database: str, broker: object) -> None:
    with serving(RLFLEET_ADMIN_SECURE="true") as api:
        answer = api.nobody.post("/login", data={"token": api.operator_token})
    (cookie,) = SimpleCookie(answer.headers["set-cookie"]).values()
    assert (cookie.key, cookie["secure"]) == (COOKIE, True)


def test_production_sends_no_cookie_in_the_clear() -> None:
    known = {"RLFLEET_ENV": "production", "RLFLEET_ADMIN_HOST": "0.0.0.0"}  # noqa: S104 - what is to be refused
    with pytest.raises(InvalidSettings, match="RLFLEET_ADMIN_SECURE"):
        AdminSettings.model_validate(known).checked()
    for fine in ({"RLFLEET_ADMIN_SECURE": "true"}, {"RLFLEET_ADMIN_HOST": "127.0.0.1"}, {"RLFLEET_ENV": "development"}):
        AdminSettings.model_validate(known | fine).checked()
