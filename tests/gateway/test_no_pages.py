"""Without keys no web page reaches the gateway, whatever its browser sends; programs on this machine do."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn

from gateway import __main__ as gateway
from gateway.app import create_app
from gateway.settings import GatewaySettings
from tests.gateway.conftest import World
from tests.gateway.doubles import served
from tests.gateway.test_ingest_http import START, rows

EVENTS = json.dumps({"schema": 1, "events": [START]})
SIMPLE = {"Content-Type": "text/plain"}
"""What a page may send anywhere without asking first."""
PATHS = ("/health", "/ready", "/live", "/v1/models", "/v1/models/main", "/nowhere")
OF_PAGES = [
    {"Host": "evil.example:8300"},
    {"Host": "127.0.0.1.evil.example:8300"},
    {"Host": "localhost.evil.example"},
    {"Host": "203.0.113.9:8300"},
    {"Host": "0.0.0.0:8300"},
    {"Host": ""},
    {"Origin": "http://evil.example"},
    {"Origin": "https://127.0.0.1"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Host": "evil.example:8300", "Origin": "http://evil.example:8300", "Sec-Fetch-Site": "same-origin"},
]


@pytest.fixture
def client(world: World) -> Iterator[httpx.Client]:
    with world.brief_gateway() as made:
        yield made


@pytest.mark.parametrize("headers", OF_PAGES, ids=str)
def test_what_a_page_sends_is_refused_and_nothing_is_stored(client: httpx.Client, headers: Mapping[str, str]) -> None:
    answer = client.post("/v1/ingest", content=EVENTS, headers=SIMPLE | dict(headers))
    assert answer.status_code == 403, answer.text
    error = answer.json()["error"]
    name, value = next(iter(headers.items()))
    assert error["message"] == (
        f"{name}: {value}: without RLFLEET_GATEWAY_KEYS only programs on this machine are served, and no web page; "
        "call 127.0.0.1 or localhost, or set RLFLEET_GATEWAY_KEYS and send a key"
    )
    assert (error["type"], error["code"]) == ("permission_error", "not_local")
    assert rows("select 1 from rlfleet.recordings") == []
    assert rows("select 1 from rlfleet.quarantine") == []


@pytest.mark.parametrize("path", PATHS)
def test_a_page_reads_nothing(client: httpx.Client, path: str) -> None:
    assert client.get(path, headers={"Host": "evil.example"}).status_code == 403
    assert client.get(path).status_code != 403


def test_a_page_asks_no_version(world: World, client: httpx.Client) -> None:
    world.release(0)
    engine = world.engine(versions={world.names[0]})
    asked = json.dumps({"model": "main", "messages": [{"role": "user", "content": "Go."}]})
    given = client.post("/v1/chat/completions", content=asked, headers=SIMPLE | {"Origin": "http://evil.example"})
    assert (given.status_code, engine.asked, world.count()) == (403, [], 0)
    assert client.post("/v1/chat/completions", content=asked).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "localhost:8300"},
        {"Host": "LOCALHOST"},
        {"Host": "127.0.0.1"},
        {"Host": "127.9.9.9:1"},
        {"Host": "[::1]:8300"},
        {"Host": "[::1]"},
        {"Host": "[::ffff:127.0.0.1]:8300"},
        {"Sec-Fetch-Site": "none"},
        {"Host": "localhost:8300", "Origin": "http://localhost:8300", "Sec-Fetch-Site": "same-origin"},
    ],
    ids=str,
)
def test_programs_on_this_machine_are_served(client: httpx.Client, headers: Mapping[str, str]) -> None:
    answer = client.post("/v1/ingest", content=EVENTS, headers=headers)
    assert (answer.status_code, answer.json()["accepted"]) == (200, 1)


def test_a_probe_without_a_host_is_answered(client: httpx.Client) -> None:
    at = urlsplit(str(client.base_url))
    assert at.hostname is not None
    assert at.port is not None
    with socket.create_connection((at.hostname, at.port), timeout=30) as connection:
        connection.sendall(b"GET /live HTTP/1.0\r\n\r\n")
        assert b" 200 OK\r\n" in connection.recv(4096)


def test_over_ipv6_too(world: World) -> None:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    app = create_app(GatewaySettings(RLFLEET_CAPTURE="off"))
    with served(app, host="::1") as url, httpx.Client(trust_env=False, timeout=30) as client:
        here = f"http://[::1]:{urlsplit(url).port}/v1/ingest"
        assert client.post(here, content=EVENTS, headers=SIMPLE | {"Origin": "http://evil.example"}).status_code == 403
        assert client.post(here, content=EVENTS).status_code == 200


@pytest.mark.parametrize("headers", [{"Host": "gateway:8300"}, *OF_PAGES], ids=str)
def test_with_keys_the_key_alone_decides(world: World, headers: Mapping[str, str]) -> None:
    client = world.gateway(RLFLEET_GATEWAY_KEYS="k1")
    refused = client.post("/v1/ingest", content=EVENTS, headers=SIMPLE | dict(headers))
    assert (refused.status_code, rows("select 1 from rlfleet.recordings")) == (401, [])
    given = client.post("/v1/ingest", content=EVENTS, headers={"Authorization": "Bearer k1", **headers})
    assert given.status_code == 200
    assert client.get("/live", headers=headers).status_code == 200


def test_a_proxy_that_names_its_caller_gives_nobody_loopback(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    with monkeypatch.context() as patch:
        patch.setattr(gateway, "_wrong", list)
        patch.setattr(gateway, "settings", GatewaySettings)
        patch.setattr(uvicorn, "run", lambda _, **given: told.update(given))
        gateway.main()

    believed = {"proxy_headers": True, "forwarded_allow_ips": told["forwarded_allow_ips"]}
    app = create_app(GatewaySettings(RLFLEET_CAPTURE="off"))
    with served(app, **believed) as url, httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
        for given in ("203.0.113.9", "127.0.0.1, 203.0.113.9"):
            assert client.post("/v1/ingest", content=EVENTS, headers={"X-Forwarded-For": given}).status_code == 401
        assert rows("select 1 from rlfleet.recordings") == []
        assert client.post("/v1/ingest", content=EVENTS).status_code == 200
