"""The artifact store: whether this machine can write to it and read from it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from fleet.doctor.finding import Finding, fail, ok
from rl.errors import RlfleetError, StoreUnavailable

if TYPE_CHECKING:
    from backends.store import Store

SECONDS = 30.0


def look(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Write a small object, read it and remove it, where a store is set."""
    from backends.settings import store_settings
    from backends.store import Store

    if not environ.get("RLFLEET_STORE"):
        yield ok("store", "none is set (RLFLEET_STORE): hosts share RLFLEET_ARTIFACTS, or there is one")
        return
    try:
        url = store_settings().url
        asyncio.run(_bounded(Store(url)))
    except TimeoutError:
        remedy = "look at the way there: the endpoint (AWS_ENDPOINT_URL, GOOGLE_BASE_URL), proxies, a firewall"
        yield fail("store", f"{url} did not answer within {SECONDS:.0f} s", remedy)
    except StoreUnavailable as error:
        remedy = "start it, or correct the endpoint (AWS_ENDPOINT_URL, GOOGLE_BASE_URL) and the credentials"
        yield fail("store", str(error), remedy)
    except RlfleetError as error:  # says what to do
        words, _, remedy = str(error).rpartition("; ")
        yield fail("store", words or remedy, remedy if words else "correct what it names")
    else:
        yield ok("store", f"{url} can be written and read")


async def _bounded(store: Store) -> None:
    async with asyncio.timeout(SECONDS):
        await store.probe()
