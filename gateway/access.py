"""Who may call: bearer keys, or loopback alone where none is configured."""

from __future__ import annotations

import hmac
from functools import lru_cache
from ipaddress import ip_address

from starlette.requests import Request

from gateway.errors import Refusal


def check(request: Request, keys: tuple[bytes, ...]) -> None:
    """Return if the caller may pass. Every key is compared, each in constant time.

    Raises:
        Refusal: 401, the key is missing or wrong, or there are no keys and the caller is elsewhere.
    """
    if not keys:
        if request.client is not None and not _is_loopback(request.client.host):
            raise _refusal("without RLFLEET_GATEWAY_KEYS only callers on this machine are served; set it")
        return
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    fits = [hmac.compare_digest(given.strip().encode("latin-1"), key) for key in keys]
    if scheme.lower() != "bearer" or not any(fits):
        raise _refusal("send 'Authorization: Bearer <key>' with one of the keys in RLFLEET_GATEWAY_KEYS")


def _refusal(message: str) -> Refusal:
    return Refusal(401, "invalid_api_key", message, {"WWW-Authenticate": "Bearer"})


@lru_cache(maxsize=1024)
def _is_loopback(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
