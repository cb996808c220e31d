from __future__ import annotations

from collections.abc import Iterator

import pytest

from db.settings import settings
from rl.errors import InvalidSettings

ELSEWHERE = "postgresql://u:secret@db.internal/n"


@pytest.fixture(autouse=True)
def _read_anew() -> Iterator[None]:
    settings.cache_clear()
    yield
    settings.cache_clear()


def test_production_refuses_what_strangers_could_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", ELSEWHERE)
    assert settings().database_url == ELSEWHERE
    settings.cache_clear()
    monkeypatch.setenv("RLFLEET_ENV", "production")
    remedy = (
        r"DATABASE_URL = '<hidden>': it is on another machine.*sslmode=verify-full.*or set RLFLEET_PRIVATE_NETWORK=true"
    )
    with pytest.raises(InvalidSettings, match=remedy) as caught:
        settings()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "private"),
    [(ELSEWHERE, "true"), (f"{ELSEWHERE}?sslmode=verify-full", ""), ("postgresql://u:secret@127.0.0.1/n", "")],
)
def test_production_takes_what_they_could_not(monkeypatch: pytest.MonkeyPatch, url: str, private: str) -> None:
    monkeypatch.setenv("RLFLEET_ENV", "production")
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("RLFLEET_PRIVATE_NETWORK", private)
    assert settings().database_url == url


def test_production_asks_where_libpq_would_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_ENV", "production")
    monkeypatch.setenv("DATABASE_URL", "postgresql:///n")
    assert settings().database_url == "postgresql:///n"
    settings.cache_clear()
    monkeypatch.setenv("PGHOST", "db.internal")
    with pytest.raises(InvalidSettings, match="it is on another machine"):
        settings()


def test_a_word_that_is_neither_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", ELSEWHERE)
    monkeypatch.setenv("RLFLEET_PRIVATE_NETWORK", "perhaps")
    with pytest.raises(InvalidSettings, match="RLFLEET_PRIVATE_NETWORK"):
        settings()
