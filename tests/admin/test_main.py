"""How the server is started."""

from __future__ import annotations

from functools import partial
from typing import Any

import httpx
import pytest
import uvicorn

from admin import __main__ as admin
from admin import access, settings
from admin.app import create_app
from admin.limits import Limit
from admin.settings import AdminSettings
from tests.gateway.doubles import served


def started(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What uvicorn is told."""
    told: dict[str, Any] = {}
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
    monkeypatch.setattr(uvicorn, "run", lambda _, **given: told.update(given))
    settings.settings.cache_clear()
    try:
        admin.main()
    finally:
        settings.settings.cache_clear()
    return told


def test_nobody_says_who_asks_but_a_proxy_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RLFLEET_ADMIN_PROXY", raising=False)
    assert started(monkeypatch)["proxy_headers"] is False
    monkeypatch.setenv("RLFLEET_ADMIN_PROXY", "10.0.0.7")
    told = started(monkeypatch)
    assert (told["proxy_headers"], told["forwarded_allow_ips"]) == (True, "10.0.0.7")


def test_an_address_that_guesses_cannot_say_that_it_is_others(fresh: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RLFLEET_ADMIN_PROXY", raising=False)
    with monkeypatch.context() as patch:
        told = started(patch)
    believed = {name: told[name] for name in ("proxy_headers", "forwarded_allow_ips")}
    monkeypatch.setattr(access, "Limit", partial(Limit, clock=lambda: 100.0))
    with (
        served(create_app(AdminSettings(RLFLEET_ADMIN_RATE="1000")), **believed) as url,
        httpx.Client(base_url=url, trust_env=False, timeout=30) as client,
    ):
        statuses = []
        for number in range(11):
            headers = {"Authorization": f"Bearer rlf_1_{'a' * 43}", "X-Forwarded-For": f"10.0.0.{number}"}
            statuses.append(client.get("/api/admin/lines", headers=headers).status_code)
    assert statuses == [401] * 10 + [429]
