from __future__ import annotations

import pytest

from rl.local_requests import is_loopback, strange_header


@pytest.mark.parametrize(
    ("host", "address", "is_here"),
    [
        ("10.0.0.5:8300", "10.0.0.5", True),
        ("10.0.0.5", "::ffff:10.0.0.5", True),
        ("[2001:db8::5]:8300", "2001:db8:0::5", True),
        ("10.0.0.6:8300", "10.0.0.5", False),
        ("node.internal:8300", "10.0.0.5", False),
        ("[127.0.0.1", "10.0.0.5", False),
        ("::1", "::1", False),
        ("", "", False),
        (":8300", "", False),
        ("unix", "unix", False),
    ],
)
def test_a_host_is_the_address_that_was_called_or_loopback(host: str, address: str, is_here: bool) -> None:
    assert strange_header({"host": host}, address) == ("" if is_here else f"Host: {host}")


def test_what_no_browser_sends_is_no_page() -> None:
    assert strange_header({}) == ""
    assert strange_header({"host": "localhost", "sec-fetch-mode": "cors"}) == ""
    assert strange_header({"origin": "null"}) == "Origin: null"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["10.0.0.1", "::ffff:10.0.0.1", "localhost", "", "127.1"])
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)
