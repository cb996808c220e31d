"""How the server is started."""

from __future__ import annotations

from typing import Any

import pytest
import uvicorn

from admin import __main__ as admin
from admin import settings


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
