from __future__ import annotations

import pytest
from starlette.requests import Request

from gateway.access import check
from gateway.errors import Refusal

KEYS = (b"first-key", b"second-key")


def request(host: str = "10.0.0.9", authorization: str | None = None) -> Request:
    headers = [] if authorization is None else [(b"authorization", authorization.encode("latin-1"))]
    return Request({"type": "http", "client": (host, 1234), "headers": headers})


@pytest.mark.parametrize("authorization", ["Bearer first-key", "bearer second-key", "Bearer  second-key "])
def test_any_configured_key_passes(authorization: str) -> None:
    check(request(authorization=authorization), KEYS)


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", "Bearer first", "Basic first-key", "first-key", "Bearer clé"]
)
def test_anything_else_does_not(authorization: str | None) -> None:
    with pytest.raises(Refusal) as refused:
        check(request("127.0.0.1", authorization), KEYS)
    assert refused.value.status_code == 401


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_without_keys_this_machine_passes(host: str) -> None:
    check(request(host), ())


@pytest.mark.parametrize("host", ["10.0.0.9", "192.168.1.1", "::ffff:10.0.0.9", "2001:db8::1", "testclient"])
def test_without_keys_others_do_not(host: str) -> None:
    with pytest.raises(Refusal, match="RLFLEET_GATEWAY_KEYS"):
        check(request(host), ())
