"""In Chromium: what a browser that signed in sends to other servers, and what pages of other sites make it do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from admin.access import COOKIE
from db import sessions, tokens
from db.session import transaction
from tests.admin.browser import chromium, tab
from tests.admin.conftest import Client, token
from tests.gateway.doubles import served

pytestmark = pytest.mark.slow
LINES = "/api/admin/lines"
STEALS = """<!doctype html><form method="post" action="{to}/login"><input name="token" value="{token}">
<button>Win a prize</button></form>"""


class Other:
    """Another server of the same host: it keeps the cookies that it is sent, and shows ``page``."""

    def __init__(self, page: str = "") -> None:
        self.cookies: list[dict[str, str]] = []
        self.page = page

    def app(self) -> Starlette:
        async def show(request: Request) -> HTMLResponse:
            self.cookies.append(request.cookies)
            return HTMLResponse(self.page)

        return Starlette(routes=[Route("/", show)])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


def test_another_port_of_the_host_gets_no_token(browser: Browser, server: str, client: Client) -> None:
    given, other = token("olga", "operator"), Other()
    with served(other.app()) as elsewhere, tab(browser, server) as reader:
        reader.sign_in(given)
        (cookie,) = reader.page.context.cookies()
        assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == (COOKIE, True, "Strict")
        reader.page.goto(elsewhere)
        (sent,) = [one[COOKIE] for one in other.cookies if one]
        assert sessions.SHAPE.fullmatch(sent)
        assert client(sent).get(LINES).status_code == 401
        as_cookie = {"Cookie": f"{COOKIE}={sent}"}
        assert client().get(LINES, headers=as_cookie).status_code == 200
        reader.open("/")
        reader.page.get_by_role("button", name="Sign out").click()
        expect(reader.page.get_by_role("heading", name="Sign in")).to_be_visible()
        assert reader.page.context.cookies() == []
    assert client().get(LINES, headers=as_cookie).status_code == 401
    assert client(given).get(LINES).status_code == 200


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_page_elsewhere_signs_nobody_in(browser: Browser, server: str, host: str) -> None:
    page = STEALS.format(to=server, token=token("mallory", "operator"))
    with served(Other(page).app()) as elsewhere, tab(browser, server) as reader:
        reader.page.goto(elsewhere.replace("127.0.0.1", host))
        reader.page.get_by_role("button", name="Win a prize").click()
        expect(reader.page.get_by_text("Only a page of this server may ask for this")).to_be_visible()
        assert reader.page.context.cookies() == []


def test_whose_token_was_revoked_is_asked_for_another(browser: Browser, server: str) -> None:
    with tab(browser, server) as reader:
        reader.sign_in(token("olga", "operator"))
        with transaction() as session:
            tokens.revoke(session, "olga")
        reader.page.get_by_role("button", name="Sign out").click()
        expect(reader.page.get_by_role("heading", name="Sign in")).to_be_visible()
        assert reader.page.context.cookies() == []
        reader.sign_in(token("otto", "operator"))
        expect(reader.page.get_by_text("otto (operator)")).to_be_visible()
