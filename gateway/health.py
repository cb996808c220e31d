"""Whether the gateway can do its work: strictly, for people and the fleet; and whether it can answer, for balancers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from db import engines
from db.engines import Address
from db.session import transaction
from gateway.capture import Recorder
from gateway.catalog import Catalog
from gateway.forwarding import Engines
from rl.errors import DatabaseUnavailable

OK = "ok"
ASK_SECONDS = 5.0


@dataclass(frozen=True)
class Health:
    """``ok``, or what is wrong, of each thing that an answer needs.

    ``releases_age`` is that of what routing knows, in seconds, while the database is away: else it is read when a call
    needs it. ``capture`` has the numbers of the spool.
    """

    database: str
    engine: str
    releases_age: float | None
    capture: dict[str, Any]

    @property
    def is_good(self) -> bool:
        """Whether the database and an engine answer."""
        return self.database == OK and self.engine == OK

    def body(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "status": OK if self.is_good else "unavailable",
            "database": self.database,
            "engine": self.engine,
            "releases": {"age_seconds": self.releases_age},
            "capture": self.capture,
        }


@dataclass(frozen=True)
class Readiness:
    """Whether calls can be answered, if only as was last known; ``why`` says why not."""

    status: str
    why: str

    @property
    def is_good(self) -> bool:
        """Whether a balancer may send calls here."""
        return self.status != "unavailable"


async def health(asked: Engines, catalog: Catalog, recorder: Recorder) -> Health:
    """The state of the database, asked of itself rather than of a cache, and of the engines that it knows."""
    capture = recorder.state()
    try:
        known = await asyncio.to_thread(_known_engines)
    except DatabaseUnavailable:
        age = None if catalog.age is None else round(catalog.age, 1)
        return Health("does not answer", "unknown, because the database does not answer", age, capture)
    if not known:
        return Health(OK, "none has announced itself; start a GPU worker", None, capture)
    return Health(OK, OK if await _any(asked, known) else f"{known[0].name} does not answer", None, capture)


async def readiness(asked: Engines, catalog: Catalog, recorder: Recorder, *, has_base: bool) -> Readiness:
    """Whether the gateway knows where to send calls, can record them, and has somebody to answer them."""
    try:
        snapshot = await catalog.snapshot()
    except DatabaseUnavailable:
        return Readiness("unavailable", "the database does not answer, and no releases are known")
    if not recorder.has_room:
        return Readiness("unavailable", "the spool is full")
    if not has_base and not await _any(asked, snapshot.engines):
        return Readiness("unavailable", "no engine answers")
    away = recorder.away or ("the database does not answer" if catalog.is_stale else "")
    return Readiness("degraded" if away else OK, away)


async def _any(asked: Engines, known: Sequence[Address]) -> bool:
    return any(await asyncio.gather(*(asked.answers(engine) for engine in known)))


def _known_engines() -> list[Address]:
    with transaction(ASK_SECONDS) as session:
        return engines.known(session)
