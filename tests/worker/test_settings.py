from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rl.errors import InvalidSettings
from worker.settings import broker_tls, broker_url, settings


@pytest.fixture(autouse=True)
def _read_anew() -> Iterator[None]:
    for read in (broker_url, settings):
        read.cache_clear()
    yield
    for read in (broker_url, settings):
        read.cache_clear()


@pytest.mark.parametrize("url", [None, "", "localhost:6379", "amqp://guest:secret@host", "http://:secret@x"])
def test_a_broker_that_cannot_be_used_is_said_without_showing_it(
    monkeypatch: pytest.MonkeyPatch, url: str | None
) -> None:
    if url is None:
        monkeypatch.delenv("REDIS_URL", raising=False)
    else:
        monkeypatch.setenv("REDIS_URL", url)
    with pytest.raises(InvalidSettings, match="REDIS_URL = '<hidden>': set it to redis://") as caught:
        broker_url()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["redis://:pw@host:6379/0", "rediss://host"])
def test_a_redis_url_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    assert broker_url() == url


@pytest.mark.parametrize("url", ["redis://:secret@redis.internal/0", "rediss://:secret@host/0?ssl_cert_reqs=none"])
def test_production_refuses_what_strangers_could_read(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    assert broker_url() == url
    broker_url.cache_clear()
    monkeypatch.setenv("RLFLEET_ENV", "production")
    with pytest.raises(InvalidSettings, match=r"REDIS_URL = '<hidden>': .*RLFLEET_PRIVATE_NETWORK=true") as caught:
        broker_url()
    assert "secret" not in str(caught.value)


def test_production_takes_the_word_of_who_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_ENV", "production")
    monkeypatch.setenv("REDIS_URL", "redis://:secret@valkey:6379/0")
    monkeypatch.setenv("RLFLEET_PRIVATE_NETWORK", "perhaps")
    with pytest.raises(InvalidSettings, match="RLFLEET_PRIVATE_NETWORK = '<hidden>': set it to true or false"):
        broker_url()
    monkeypatch.setenv("RLFLEET_PRIVATE_NETWORK", "true")
    assert broker_url() == "redis://:secret@valkey:6379/0"
    monkeypatch.setenv("REDIS_URL", "rediss://:secret@valkey:6379/0?ssl_check_hostname=false")
    broker_url.cache_clear()
    with pytest.raises(InvalidSettings, match="ssl_check_hostname must be true"):
        broker_url()


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("", {"ssl_cert_reqs": "required", "ssl_check_hostname": True}),
        ("?ssl_ca_certs=/ca.pem", {"ssl_cert_reqs": "required", "ssl_check_hostname": True, "ssl_ca_certs": "/ca.pem"}),
        ("?ssl_cert_reqs=CERT_NONE", {"ssl_cert_reqs": "none", "ssl_check_hostname": False}),
        ("?ssl_check_hostname=false", {"ssl_cert_reqs": "required", "ssl_check_hostname": False}),
    ],
)
def test_certificates_are_looked_at_unless_the_url_says_otherwise(query: str, told: dict[str, object]) -> None:
    assert broker_tls(f"rediss://u:p@host:6380/2{query}") == ("rediss://u:p@host:6380/2", told)
    assert broker_tls("redis://u:p@host/2") == ("redis://u:p@host/2", False)


def test_a_worker_has_its_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE", "ARTIFACTS", "DEVICE", "LEASE_SECONDS", "STALL_SECONDS", "TICK_SECONDS"):
        monkeypatch.delenv(f"RLFLEET_{name}", raising=False)
    here = settings()
    assert (here.lease_seconds, here.stall_seconds, here.tick_seconds) == (60, 300, 10)
    assert (here.state, here.artifacts, here.device) == (Path(".state"), Path(".state/artifacts"), "")


@pytest.mark.parametrize("name", ["RLFLEET_LEASE_SECONDS", "RLFLEET_STALL_SECONDS", "RLFLEET_TICK_SECONDS"])
def test_a_time_is_a_number_above_zero(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for value in ("0", "-1", "soon"):
        settings.cache_clear()
        monkeypatch.setenv(name, value)
        with pytest.raises(InvalidSettings, match=f"{name} = '{value}'"):
            settings()
