"""What is released and where engines are, as of at most a second ago, for a hot path that must not ask each time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from db import engines, redacting, releases
from db.engines import Address
from db.redacting import Redactions
from db.releases import LineReleases, NamedVersion
from db.session import transaction
from rl.errors import DatabaseUnavailable

SECONDS = 1.0
NAMES = 1000

T = TypeVar("T")


class Fresh(Generic[T]):
    """A value that ``load`` reads, read again in a thread once it is older than ``SECONDS``.

    Callers who meet an old value wait for one common reading. ``stale_is_fine`` gives the old value while the
    database is away.
    """

    def __init__(self, load: Callable[[], T], *, stale_is_fine: bool = False) -> None:
        self.load, self.stale_is_fine = load, stale_is_fine
        self._loading: asyncio.Task[T] | None = None
        self._value: tuple[float, T] | None = None

    async def value(self) -> T:
        """The value.

        Raises:
            DatabaseUnavailable: it is too old and could not be read.
        """
        if self._value is not None and time.monotonic() - self._value[0] < SECONDS:
            return self._value[1]
        if self._loading is None or self._loading.done():
            self._loading = asyncio.ensure_future(self._read())
        return await asyncio.shield(self._loading)

    async def _read(self) -> T:
        began = time.monotonic()
        try:
            self._value = began, await asyncio.to_thread(self.load)
        except DatabaseUnavailable:
            if self._value is None or not self.stale_is_fine:
                raise
            self._value = began, self._value[1]
        return self._value[1]


@dataclass(frozen=True)
class Snapshot:
    """Lines by name and what they take out, engines with the newest first, what is known of the pinned version."""

    lines: dict[str, LineReleases]
    redactions: Redactions
    engines: list[Address]
    pinned: NamedVersion | None


class Catalog:
    """The release rows, the versions and the engines that routing needs, and the lines' redactions."""

    def __init__(self, pin: str, *, stale_is_fine: bool) -> None:
        self.pin, self.stale_is_fine = pin, stale_is_fine
        self._snapshot = Fresh(self._read_snapshot, stale_is_fine=stale_is_fine)
        self._versions: dict[str, Fresh[NamedVersion | None]] = {}

    async def snapshot(self) -> Snapshot:
        """Everything that is not asked for by name."""
        return await self._snapshot.value()

    async def version(self, name: str) -> NamedVersion | None:
        """The version called ``name``, or None."""
        if name not in self._versions:
            if len(self._versions) >= NAMES:
                self._versions.clear()
            self._versions[name] = Fresh(lambda: _read_version(name), stale_is_fine=self.stale_is_fine)
        return await self._versions[name].value()

    def _read_snapshot(self) -> Snapshot:
        with transaction() as session:
            pinned = releases.version_named(session, self.pin) if self.pin else None
            redactions = redacting.of_lines(session)
            return Snapshot(releases.by_line(session), redactions, engines.known(session), pinned)


def _read_version(name: str) -> NamedVersion | None:
    with transaction() as session:
        return releases.version_named(session, name)
