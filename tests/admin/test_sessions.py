"""A browser that is signed in: what ends that, and what it says when it is over."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from http.cookies import SimpleCookie

import httpx
import pytest
from sqlalchemy import text

from admin import access
from admin.access import COOKIE
from admin.limits import Limit
from db import sessions, tokens
from db.session import transaction
from tests.admin.conftest import Client, signed_in, token
from tests.admin.world import Api, serving

OWN = {"Sec-Fetch-Site": "same-origin"}
LINES = "/api/admin/lines"


@pytest.fixture(scope="module")
def served_api(database: str, broker: object) -> Iterator[Api]:
    """No time passes for the limits of the module's server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(access, "Limit", partial(Limit, clock=lambda: 100.0))
        with serving() as made:
            yield made


def ask(url: str, value: str, path: str = LINES) -> httpx.Response:
    """What a browser with this cookie is answered."""
    return httpx.get(url + path, headers={"Cookie": f"{COOKIE}={value}"}, trust_env=False, timeout=60)


def post(url: str, path: str, headers: dict[str, str], **fields: str) -> httpx.Response:
    return httpx.post(url + path, data=fields, headers=headers, trust_env=False, timeout=60)


def taken_away(answer: httpx.Response) -> bool:
    """Whether the answer takes the browser's cookie."""
    (cookie,) = SimpleCookie(answer.headers.get("set-cookie", "none=1")).values()
    return (cookie.key, cookie.value, cookie["max-age"], cookie["path"]) == (COOKIE, "", "0", "/")


def change(statement: str) -> None:
    with transaction() as session:
        session.execute(text(statement))


def test_the_cookie_is_not_the_token_and_neither_counts_as_the_other(server: str, client: Client) -> None:
    given = token("olga", "operator")
    answer = post(server, "/login", OWN, token=given)
    (cookie,) = SimpleCookie(answer.headers["set-cookie"]).values()
    assert ask(server, cookie.value).status_code == 200
    assert given not in answer.headers["set-cookie"]
    assert client(cookie.value).get(LINES).status_code == 401
    assert ask(server, given).status_code == 401


def test_signing_out_ends_this_session_alone(server: str, client: Client) -> None:
    given = token("olga", "operator")
    here, there = signed_in(given), signed_in(given)
    answer = post(server, "/logout", OWN | {"Cookie": f"{COOKIE}={here}"})
    assert (answer.status_code, answer.headers["location"], taken_away(answer)) == (303, "/login", True)
    assert [ask(server, one).status_code for one in (here, there)] == [401, 200]
    assert client(given).get(LINES).status_code == 200


def test_signing_in_again_ends_the_session_before(server: str) -> None:
    given = token("olga", "operator")
    before = signed_in(given)
    answer = post(server, "/login", OWN | {"Cookie": f"{COOKIE}={before}"}, token=given)
    assert (answer.status_code, ask(server, before).status_code) == (303, 401)


@pytest.mark.parametrize("over", ["revoked", "expired", "session", "unknown", "none"])
def test_whoever_wants_to_sign_out_can(server: str, over: str) -> None:
    value = signed_in(token("olga", "operator"))
    if over == "revoked":
        with transaction() as session:
            tokens.revoke(session, "olga")
    elif over == "expired":
        change("update rlfleet.tokens set expires_at = now()")
    elif over == "session":
        change("update rlfleet.sessions set expires_at = now()")
    elif over == "unknown":
        change("delete from rlfleet.sessions")
    for _ in range(15):
        headers = OWN if over == "none" else OWN | {"Cookie": f"{COOKIE}={value}"}
        answer = post(server, "/logout", headers)
        assert (answer.status_code, answer.headers["location"], taken_away(answer)) == (303, "/login", True)


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}])
def test_no_other_site_signs_anybody_in_or_out(server: str, headers: dict[str, str]) -> None:
    given = token("olga", "operator")
    value = signed_in(given)
    for path in ("/login", "/logout"):
        answer = post(server, path, headers | {"Cookie": f"{COOKIE}={value}"}, token=given)
        assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
        assert "only a page of this server may ask for this" in answer.text.lower()
    assert ask(server, value).status_code == 200
    with transaction() as session:
        assert session.execute(text("select count(*) from rlfleet.sessions")).scalar_one() == 1


@pytest.mark.parametrize("path", [LINES, "/"])
def test_the_cookie_of_a_session_that_is_over_is_taken_away(server: str, path: str) -> None:
    value = signed_in(token("olga", "operator"))
    assert not taken_away(ask(server, value, path))
    change("update rlfleet.sessions set expires_at = now()")
    answer = ask(server, value, path)
    assert (answer.status_code, taken_away(answer)) == (401 if path == LINES else 303, True)


def test_what_was_good_once_is_no_guess(api: Api) -> None:
    given = token("ida", "operator")
    value = signed_in(given)
    with transaction() as session:
        tokens.revoke(session, "ida")
    bearer = {"Authorization": f"Bearer {given}"}
    for _ in range(15):
        assert api.nobody.get(LINES, headers=bearer).status_code == 401
        assert ask(api.url, value).status_code == 401
    wrong = [ask(api.url, "rls_1_" + "a" * 43) for _ in range(11)]
    assert [one.status_code for one in wrong] == [401] * 10 + [429]
    assert all(map(taken_away, wrong))


def test_a_session_is_not_taken_away_where_the_database_does_not_answer(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rl.errors import DatabaseUnavailable

    def away(*_: object) -> None:
        raise DatabaseUnavailable("the server went away")

    value = signed_in(token("olga", "operator"))
    with monkeypatch.context() as patch:
        patch.setattr(sessions, "holder_of", away)
        answer = ask(server, value)
    assert (answer.status_code, "set-cookie" in answer.headers) == (503, False)
    assert ask(server, value).status_code == 200
