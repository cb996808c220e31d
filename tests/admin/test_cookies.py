"""Signing in with a browser, and what other sites cannot make it do."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Iterator
from contextlib import suppress
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from fastapi import APIRouter
from starlette.responses import Response

from admin.access import COOKIE
from admin.pages.forms import Fields, back
from db import pauses, sessions, tokens
from tests.admin.conftest import signed_in, token
from tests.admin.world import Api, serving

PAUSE = "/api/admin/pauses/train/pause"
WHY = {"reason": "somebody said so"}
form = APIRouter()


@form.post("/a-form")
def take(fields: Fields) -> Response:
    """A form as pages have them."""
    return back(f"/{fields['to']}")


@pytest.fixture(scope="module")
def served_api(database: str, broker: object) -> Iterator[Api]:
    with serving(form) as made:
        yield made


@pytest.fixture
def browser(api: Api) -> Iterator[httpx.Client]:
    """Holds an operator's cookie, and follows nothing by itself."""
    cookies = {COOKIE: signed_in(api.operator_token)}
    with httpx.Client(base_url=api.url, trust_env=False, cookies=cookies, timeout=30) as made:
        yield made


def sign_in(api: Api, given: str, to: str = "/") -> httpx.Response:
    return api.nobody.post("/login", data={"token": given, "next": to})


def word_of(given: str) -> str:
    return hmac.new(given.encode(), b"rlfleet form", hashlib.sha256).hexdigest()


def test_the_cookie_is_kept_from_scripts_and_from_other_sites(api: Api) -> None:
    answer = sign_in(api, api.operator_token)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    (cookie,) = SimpleCookie(answer.headers["set-cookie"]).values()
    assert cookie.key == COOKIE
    assert sessions.SHAPE.fullmatch(cookie.value)
    assert api.operator_token.rpartition("_")[2] not in cookie.value
    assert (cookie["httponly"], cookie["samesite"], cookie["max-age"], cookie["path"]) == (True, "strict", "43200", "/")
    assert (cookie["secure"], cookie["domain"]) == ("", "")
    api.nobody.cookies.clear()


def test_who_has_no_token_is_not_signed_in(api: Api) -> None:
    answer = sign_in(api, "rlf_1_" + "c" * 43)
    assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)
    assert api.nobody.get("/").headers["location"] == "/login?next=/"


@pytest.mark.parametrize(
    "to",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "\\\\evil.example/",
        "/\t/evil.example/",
        "/\n/evil.example/",
        "javascript:alert(1)",
        "evil.example",
        "",
    ],
)
def test_signing_in_leads_to_no_other_site(api: Api, to: str) -> None:
    shown = api.nobody.get("/login", params={"next": to})
    assert shown.status_code == 200
    there = sign_in(api, api.operator_token, to).headers["location"]
    # A browser takes tabs and line ends out of an address, and a backslash for a slash.
    assert not set(there) & set("\t\r\n\\")
    assert urlsplit(urljoin(f"{api.url}/login", there)).netloc == urlsplit(api.url).netloc
    assert there.startswith("/")
    assert not there.startswith("//")
    api.nobody.cookies.clear()


def test_signing_in_leads_to_where_one_wanted_to_go(api: Api) -> None:
    assert sign_in(api, api.operator_token, "/jobs?state=dead").headers["location"] == "/jobs?state=dead"
    api.nobody.cookies.clear()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "OWN"}, 403),
        ({"Origin": "OWN"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({}, 403),
    ],
)
def test_a_page_of_another_site_changes_nothing_with_the_cookie(
    api: Api, browser: httpx.Client, headers: dict[str, str], status: int
) -> None:
    sent = {name: api.url if value == "OWN" else value for name, value in headers.items()}
    answer = browser.post(PAUSE, json=WHY, headers=sent)
    assert answer.status_code == status
    assert [one.kind for one in pauses.paused()] == (["train"] if status == 200 else [])
    if status == 403:
        assert answer.json() == {
            "success": False,
            "error": "only a page of this server may ask for this",
            "remedy": "use a bearer token",
        }


def test_a_bearer_token_counts_whatever_the_browser_says_of_the_page(api: Api) -> None:
    answer = api.operator.post(PAUSE, json=WHY, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 200


def test_a_header_that_is_no_bearer_token_is_not_made_good_by_a_cookie(browser: httpx.Client) -> None:
    answer = browser.get("/api/admin/lines", headers={"Authorization": "Basic b3R0bzo="})
    assert (answer.status_code, answer.json()["error"]) == (401, "no token")


def test_a_form_counts_with_the_word_of_its_holder_alone(api: Api, browser: httpx.Client) -> None:
    own = {"Sec-Fetch-Site": "same-origin"}
    right = word_of(browser.cookies[COOKIE])
    answer = browser.post("/a-form", data={"word": right, "to": "jobs"}, headers=own)
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs")
    others = [word_of(signed_in(token("olga", "operator"))), word_of(signed_in(api.operator_token))]
    others += [word_of(api.operator_token), right.upper(), "", "\N{SNOWMAN}"]
    for word in ({}, *({"word": one} for one in others)):
        assert browser.post("/a-form", data={"to": "jobs"} | word, headers=own).status_code == 403
    cross = browser.post("/a-form", data={"word": right, "to": "x"}, headers={"Sec-Fetch-Site": "cross-site"})
    assert cross.status_code == 403


def test_no_page_shows_the_session(browser: httpx.Client) -> None:
    shown = browser.get("/")
    assert (shown.status_code, browser.cookies[COOKIE] in shown.text) == (200, False)


def test_every_answer_forbids_frames_and_guessing(api: Api) -> None:
    for path in ("/login", "/live", "/api/admin/lines", "/api/admin/openapi.json", "/none"):
        headers = api.viewer.get(path).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert (headers["x-frame-options"], headers["x-content-type-options"]) == ("DENY", "nosniff")
        assert (headers["cache-control"], headers["referrer-policy"]) == ("no-store", "same-origin")


def test_whose_the_token_is_is_not_asked_where_the_server_waits(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def holder_of(*given: Any) -> object:
        with suppress(RuntimeError):
            asyncio.get_running_loop()
            asked.append(True)
        asked.append(False)
        return known(*given)

    known = tokens.holder_of
    monkeypatch.setattr(tokens, "holder_of", holder_of)
    assert sign_in(api, api.operator_token).status_code == 303
    assert asked == [False]
    api.nobody.cookies.clear()


@pytest.mark.parametrize("charset", ["unicode_escape", "punycode", "undefined"])
def test_a_form_in_parts_is_not_read(api: Api, browser: httpx.Client, charset: str) -> None:
    body = '--x\r\nContent-Disposition: form-data; name="next"\r\n\r\n/\\ud800\r\n--x--\r\n'
    headers = {"Content-Type": f"multipart/form-data; boundary=x; charset={charset}"}
    assert api.nobody.post("/login", content=body, headers=headers).status_code == 415
    assert browser.post("/a-form", content=body, headers=headers).status_code == 415
    answer = api.nobody.post(
        "/login", content="next=/%ED%A0%80", headers={"Content-Type": f"application/x-www-form-urlencoded; {charset}"}
    )
    assert answer.status_code == 401
