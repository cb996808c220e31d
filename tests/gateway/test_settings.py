from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.settings import Capture, GatewaySettings, settings
from rl.errors import InvalidSettings


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for field in GatewaySettings.model_fields.values():
        monkeypatch.delenv(str(field.validation_alias), raising=False)
    settings.cache_clear()
    yield
    settings.cache_clear()


def test_on_a_laptop_nothing_needs_to_be_set() -> None:
    assert settings().keys == ()
    assert settings().use_rl_model
    assert settings().capture is Capture.SPOOLED
    assert settings().spool_folder == Path(".state/gateway")


def test_production_needs_keys_and_has_the_switch_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_ENV", "production")
    with pytest.raises(InvalidSettings, match="RLFLEET_GATEWAY_KEYS"):
        settings()

    monkeypatch.setenv("RLFLEET_GATEWAY_KEYS", " one , two,")
    with pytest.raises(InvalidSettings, match="RLFLEET_ENGINE_KEY = ''"):
        settings()

    monkeypatch.setenv("RLFLEET_ENGINE_KEY", "three")
    assert settings().keys == (b"one", b"two")
    assert not settings().use_rl_model
    settings.cache_clear()
    monkeypatch.setenv("USE_RL_MODEL", "true")
    assert settings().use_rl_model


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in GatewaySettings.model_fields.values():
        monkeypatch.setenv(str(field.validation_alias), "")
    assert settings() == GatewaySettings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RL_ROLLOUT_PERCENTAGE", "150"),
        ("USE_RL_MODEL", "perhaps"),
        ("RLFLEET_CAPTURE", "sometimes"),
        ("UPSTREAM_BASE_URL", "localhost"),
        ("RLFLEET_ENV", "prod"),
    ],
)
def test_a_bad_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettings, match=f"{name} = '{value}'"):
        settings()


def test_the_spool_lies_with_the_state_or_where_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_STATE", "/state")
    assert settings().spool_folder == Path("/state/gateway")
    assert settings().releases_file == Path("/state/gateway/releases.json")
    settings.cache_clear()
    monkeypatch.setenv("RLFLEET_SPOOL_DIR", "/spool")
    monkeypatch.setenv("RLFLEET_CAPTURE", "required")
    assert settings().spool_folder == Path("/spool")
    assert settings().releases_file is None, "nothing is answered that the database does not know"


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RLFLEET_GATEWAY_KEYS", "RLFLEET_ENGINE_KEY", "UPSTREAM_API_KEY"):
        monkeypatch.setenv(name, "hush")
    assert "hush" not in repr(settings())


@pytest.mark.parametrize("url", ["http://x:abc/v1", "http://x:99999/v1", "http://[::1/v1", "http:///v1"])
def test_an_upstream_that_cannot_be_asked_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("UPSTREAM_BASE_URL", url)
    with pytest.raises(InvalidSettings, match=r"UPSTREAM_BASE_URL = .*: is no address that can be asked: write it as"):
        settings()
    monkeypatch.setenv("UPSTREAM_BASE_URL", "http://x:65535/v1")
    assert settings().upstream_base_url == "http://x:65535/v1"


def test_a_password_in_the_address_of_an_upstream_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be sent in place of the key."""
    monkeypatch.setenv("UPSTREAM_BASE_URL", "https://me:hush@x/v1")
    monkeypatch.setenv("UPSTREAM_API_KEY", "hush")
    with pytest.raises(InvalidSettings, match="UPSTREAM_BASE_URL = '<hidden>': holds a password; set UPST") as refused:
        settings()
    assert "hush" not in str(refused.value)
