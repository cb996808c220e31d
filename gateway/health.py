"""Whether the gateway can do its work, asked of the database and the engine themselves rather than of a cache."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from db import engines
from db.engines import Address
from db.session import transaction
from gateway.forwarding import Engines
from rl.errors import DatabaseUnavailable

OK = "ok"


@dataclass(frozen=True)
class Health:
    """``ok``, or what is wrong, of each thing that an answer needs."""

    database: str
    engine: str

    @property
    def is_good(self) -> bool:
        """Whether both are ``ok``."""
        return self.database == OK and self.engine == OK


async def health(asked: Engines) -> Health:
    """The state of the database, and of the newest engine."""
    try:
        known = await asyncio.to_thread(_known_engines)
    except DatabaseUnavailable:
        return Health("does not answer", "unknown, because the database does not answer")
    if not known:
        return Health(OK, "none has announced itself; start a GPU worker")
    answers = await asyncio.gather(*(asked.answers(engine) for engine in known))
    return Health(OK, OK if any(answers) else f"{known[0].name} does not answer")


def _known_engines() -> list[Address]:
    with transaction() as session:
        return engines.known(session)
