"""Which HTTP requests come from programs of this machine, and not from a web page that somebody on it has open.

A browser lets every page send requests to servers on loopback, and a page whose name is made to resolve to 127.0.0.1
may read the answers too. What the browser says of itself gives both away: the ``Host`` that it looked up, and the
``Origin`` and ``Sec-Fetch-Site`` of the page. A page can change none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

ELSEWHERE = ("cross-site", "same-site")
"""What ``Sec-Fetch-Site`` says of pages of other servers; another port of this machine is the same site."""


def strange_header(headers: Mapping[str, str], address: str = "") -> str:
    """The header by which a request may be a page's, as ``Name: value``; empty where there is none.

    ``headers`` are found by their names in small letters. ``Host`` may be ``localhost``, a loopback address, or
    ``address``, the one of this machine that the connection came to; it may be missing, as browsers always send it.
    """
    host = headers.get("host")
    if host is not None and not _is_here(host, address):
        return f"Host: {host}"
    if (site := headers.get("sec-fetch-site")) in ELSEWHERE:
        return f"Sec-Fetch-Site: {site}"
    origin = headers.get("origin")
    if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
        return f"Origin: {origin}"
    return ""


@lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    """Whether it is an address of loopback, also one of IPv4 written as IPv6."""
    address = _address(host)
    return address is not None and address.is_loopback


@lru_cache(maxsize=1024)
def _is_here(host: str, address: str) -> bool:
    """``host`` may have a port, and brackets around an address of IPv6."""
    bracketed, closing, _ = host.removeprefix("[").partition("]")
    name = bracketed if closing and host.startswith("[") else host.partition(":")[0]
    if name.lower() == "localhost" or is_loopback(name):
        return True
    named = _address(name)
    return named is not None and named == _address(address)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
