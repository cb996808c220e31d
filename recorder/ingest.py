"""One request to the gateway's ingest endpoint, and what its answer means."""

from __future__ import annotations

import functools
import ssl
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any

import httpx

MAX_EVENTS = 1_000
MAX_BYTES = 8 << 20
ENVELOPE = b'{"schema":1,"events":[%b]}'
TIMEOUT = httpx.Timeout(30.0, connect=5.0)
SMALLEST_GZIP = 1_024


class Verdict(Enum):
    """What to do with the events that were sent."""

    STORED = "answered: they are stored, were stored before, or are refused one by one"
    SPLIT = "too many, or one of them spoils the request: send fewer"
    PLAIN = "the server does not read gzip: send them as they are"
    LATER = "the server is away or full: send the same again later"
    REFUSED = "the server does not take them from us: a person must change the key or the address"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the event at ``index`` of a request is not stored."""

    index: int
    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class Reply:
    """``reason`` says in words why the events are not stored. ``retry_after`` is in seconds."""

    verdict: Verdict
    reason: str = ""
    duplicate: int = 0
    refusals: tuple[Refusal, ...] = ()
    retry_after: float | None = None


def endpoint(url: str) -> str:
    """The ingest endpoint of the gateway at ``url``, which may end in ``/v1``.

    Raises:
        ValueError: it is not an http address.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"url = {url!r}: {error}; give it like http://127.0.0.1:8300") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"url = {url!r}: give the gateway's address like http://127.0.0.1:8300")
    return url.rstrip("/").removesuffix("/v1") + "/v1/ingest"


@functools.cache
@functools.cache
def certificates() -> ssl.SSLContext:
    """What every client of this process, and of the children it forks, checks a server's certificate with."""
    return httpx.create_ssl_context()


def warm_up() -> None:
    """Load what the first request needs, certificates included: a thread that does so while the process forks leaves
    the child a lock of that module, or of OpenSSL, that nobody gives back.
    """
    httpx.Client(verify=certificates()).close()
    "localhost".encode("idna")


def post(client: httpx.Client, url: str, events: Sequence[bytes], *, is_gzip: bool) -> Reply:
    """Send the events in one request; never raises for what a network or a server does."""
    body = ENVELOPE % b",".join(events)
    headers = {"Content-Type": "application/json"}
    if is_gzip and len(body) >= SMALLEST_GZIP:
        packer = zlib.compressobj(level=1, wbits=31)
        body = packer.compress(body) + packer.flush()
        headers["Content-Encoding"] = "gzip"
    try:
        response = client.post(url, content=body, headers=headers)
    except httpx.HTTPError as error:
        return Reply(Verdict.LATER, f"no answer ({type(error).__name__})")
    return _reply(response, len(events))


def _reply(response: httpx.Response, count: int) -> Reply:
    status = response.status_code
    reason = f"HTTP {status}"
    if status == 200:
        return _answered(response, count)
    if status in (400, 413, 422):
        return Reply(Verdict.SPLIT, reason)
    if status == 415:
        return Reply(Verdict.PLAIN, reason)
    if status in (408, 425, 429) or status >= 500:
        return Reply(Verdict.LATER, reason, retry_after=_retry_after(response))
    return Reply(Verdict.REFUSED, reason)


def _answered(response: httpx.Response, count: int) -> Reply:
    """What a 200 says, if it accounts for every event: a proxy's page of its own is no acknowledgement."""
    try:
        answer: Any = response.json()
        refusals = tuple(
            Refusal(int(item["index"]), str(item.get("field", "")), str(item.get("reason", "")))
            for item in answer["rejected"]
        )
        accepted, duplicate = int(answer["accepted"]), int(answer["duplicate"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return Reply(Verdict.LATER, "HTTP 200 with an answer that is not the ingest's")
    places = {refusal.index for refusal in refusals}
    if accepted + duplicate + len(places) != count or not places <= set(range(count)):
        return Reply(Verdict.LATER, "HTTP 200 that does not account for every event")
    return Reply(Verdict.STORED, duplicate=duplicate, refusals=refusals)


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds that the answer asks to wait, given as a number or as a date."""
    value = response.headers.get("retry-after", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
