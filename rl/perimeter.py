"""What of a server's URL would let a stranger on the way read along, or stand in for the server."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

_NOTHING: Mapping[str, str] = {}


def exposed(url: str, *, private: bool = False, environ: Mapping[str, str] = _NOTHING) -> str | None:
    """What is wrong with a Postgres or Redis URL on a network that strangers share; None where nothing is.

    A local socket and an address of this machine need no TLS, and nothing on a ``private`` network does. Any other
    server needs it, with its certificate verified; a ``rediss://`` that gives that up is wrong everywhere. The answer
    holds no part of the URL. ``environ`` has the variables of libpq, which count where the URL is silent.

    Raises:
        ValueError: this is no URL.
    """
    parts = urlsplit(url)
    if parts.scheme.startswith("postgres"):
        return None if private else _postgres(parts, environ)
    query = dict(parse_qsl(parts.query))
    if parts.scheme == "rediss":
        return _unverified(query)
    if private or _is_here(parts.hostname or query.get("host", "")):
        return None
    return "it is on another machine, and speaks no TLS: write rediss://, with ?ssl_ca_certs=FILE"


def _postgres(parts: SplitResult, environ: Mapping[str, str]) -> str | None:
    """Each host of a list counts, and what ``hostaddr`` names is where libpq goes, whatever the host is called."""
    query: dict[str, str] = {}
    for name, value in parse_qsl(parts.query):
        query[name] = f"{query[name]},{value}" if name == "host" and name in query else value
    if query.get("sslmode", environ.get("PGSSLMODE")) == "verify-full":
        return None
    remedy = "add ?sslmode=verify-full&sslrootcert=FILE"
    if query.get("service") or environ.get("PGSERVICE"):
        return f"a service may name another machine, and it is not verified: {remedy}"
    hosts = query.get("hostaddr") or environ.get("PGHOSTADDR") or query.get("host") or _named(parts)
    if all(_is_here(host) for host in (hosts or environ.get("PGHOST", "")).split(",")):
        return None
    return f"it is on another machine, and not verified: {remedy}"


def _named(parts: SplitResult) -> str:
    """The hosts before the path, joined by commas."""
    places = parts.netloc.rpartition("@")[2].split(",")
    return ",".join(unquote(urlsplit(f"//{place}").hostname or "") for place in places)


def _unverified(query: Mapping[str, str]) -> str | None:
    if query.get("ssl_cert_reqs", "required").lower().removeprefix("cert_") != "required":
        return "ssl_cert_reqs must be required, or left out: whoever is on the way could stand in for the server"
    if query.get("ssl_check_hostname", "true").lower() != "true":
        return "ssl_check_hostname must be true, or left out: whoever has a certificate could stand in for the server"
    return None


def _is_here(host: str) -> bool:
    if host in ("", "localhost") or host.startswith("/"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
