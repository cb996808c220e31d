"""Whether the gateway can do its work: strictly, for people and the fleet; and whether it can answer, for balancers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from db import engines, releases
from db.engines import Address
from db.releases import LineReleases, NamedVersion
from db.session import transaction
from gateway.completions import Completions
from gateway.outlook import Base, Outlook, Seen, outlook
from gateway.probing import OK
from rl.errors import DatabaseUnavailable

log = logging.getLogger(__name__)

ASK_SECONDS = 5.0


@dataclass(frozen=True)
class Health:
    """``ok``, or what is wrong, of each thing that an answer needs.

    ``releases_age`` is that of what routing knows, in seconds, while the database is away: else it is read when a call
    needs it. ``capture`` has the numbers of the spool. ``outlook`` has upstreams alone while the database is away.
    """

    database: str
    engine: str
    releases_age: float | None
    capture: dict[str, Any]
    outlook: Outlook = field(default_factory=lambda: Outlook([], {}))

    @property
    def is_good(self) -> bool:
        """Whether the database and an engine answer, and some line that should be answered is."""
        return self.database == OK and self.engine == OK and not self.outlook.is_hopeless

    def body(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "status": OK if self.is_good else "unavailable",
            "database": self.database,
            "engine": self.engine,
            "releases": {"age_seconds": self.releases_age},
            "capture": self.capture,
            **self.outlook.shown(),
        }


@dataclass(frozen=True)
class Readiness:
    """Whether calls can be answered, if only as was last known; ``why`` says why not. ``upstreams``: how each is."""

    status: str
    why: str
    upstreams: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_good(self) -> bool:
        """Whether a balancer may send calls here."""
        return self.status != "unavailable"

    def body(self) -> dict[str, Any]:
        """As JSON has it."""
        said = {"status": self.status, "why": self.why}
        return said | ({"upstreams": self.upstreams} if self.upstreams else {})


async def health(held: Completions) -> Health:
    """The state of the database, asked of itself rather than of a cache, and of the lines and engines in it."""
    capture, catalog = held.recorder.state(), held.catalog
    try:
        known, lines, pinned = await asyncio.to_thread(_known, catalog.pin)
    except Exception as error:
        age = None if catalog.age is None else round(catalog.age, 1)
        why = _why_not(error)
        seen = Outlook(await held.upstreams.states(), {})
        return Health(why, f"unknown, because the database {why}", age, capture, seen)
    found = await _outlook(held, known, lines, pinned)
    if not any(one.takes for one in found.engines):
        return Health(OK, "none has announced itself; start a GPU worker", None, capture, found)
    return Health(OK, found.lacks_engine or OK, None, capture, found)


async def readiness(held: Completions) -> Readiness:
    """Whether the gateway knows where to send calls, can record them, and has somebody to answer them.

    One line that nobody can answer is told of as ``degraded``: the others are answered here as well as anywhere.
    """
    try:
        snapshot = await held.catalog.snapshot()
    except Exception:  # the catalog has logged it
        return Readiness("unavailable", f"{held.catalog.away}, and no releases are known")
    if not held.recorder.has_room:
        return Readiness("unavailable", "the spool is full")
    found = await _outlook(held, snapshot.engines, snapshot.lines, snapshot.pinned)
    return Readiness(*_ready(held, found), found.upstreams)


def _ready(held: Completions, found: Outlook) -> tuple[str, str]:
    """Status and reason."""
    if found.lacks_engine and not (found.is_answered or _base(held).stands_in):
        said = f": {found.lacks_engine}" if any(one.takes for one in found.engines) else ""
        return "unavailable", f"no engine answers{said}"
    if found.is_hopeless:
        return "unavailable", found.why
    away = held.recorder.away or held.catalog.away
    whys = "; ".join(filter(None, (away, found.why)))
    return "degraded" if whys else OK, whys


def _why_not(error: Exception) -> str:
    """What the database does instead of an answer, in words for everybody."""
    if isinstance(error, DatabaseUnavailable):
        return "does not answer"
    log.error("the database cannot be asked how lines and engines are", exc_info=error)
    return "refuses what it is asked; the gateway's log says why"


async def _outlook(
    held: Completions, known: Sequence[Address], lines: Mapping[str, LineReleases], pinned: NamedVersion | None
) -> Outlook:
    states, upstreams = await asyncio.gather(held.engines.states(known), held.upstreams.states())
    seen = [Seen(one.name, states[one.name], held.engines.kept_from(one)) for one in known]
    return outlook(lines, [*upstreams, *seen], held.rules(pinned), _base(held))


def _base(held: Completions) -> Base:
    is_set = held.upstreams.has_base
    return Base(is_set, is_set and held.settings.fallback_to_base)


def _known(pin: str) -> tuple[list[Address], dict[str, LineReleases], NamedVersion | None]:
    with transaction(ASK_SECONDS) as session:
        pinned = releases.version_named(session, pin) if pin else None
        return engines.reachable(session), releases.by_line(session), pinned
