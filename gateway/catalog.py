"""What is released and where engines are, as of at most a second ago, for a hot path that must not ask each time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from db import engines, redacting, releases
from db.releases import NamedVersion
from db.session import transaction
from gateway.snapshot import Kept, Snapshot
from rl.errors import DatabaseUnavailable

SECONDS = 1.0
PATIENCE_SECONDS = 0.5
"""How long a call waits for the database to say something newer, where what was read before will do."""
LATE_SECONDS = 2.0
"""Within this a change of the releases is in effect, so what is older does not do while the database answers."""
READ_SECONDS = 5.0
AWAY = "the database does not answer"
REFUSED = "what routing needs cannot be read; the gateway's log says why"
NAMES = 1000
NAME_CHARACTERS = 256
"""No version has a longer name, and whatever callers name is kept for a while."""

log = logging.getLogger(__name__)

T = TypeVar("T")


class Fresh(Generic[T]):
    """A value that ``load`` reads, read again in a thread once it is older than ``SECONDS``.

    Callers who meet an old value wait for one common reading. With ``stale_is_fine`` they get the old value where the
    database is away or refuses. Where it takes longer than ``PATIENCE_SECONDS`` they get it too, if it is younger than
    ``LATE_SECONDS`` or the reading before failed. ``known`` is what was read by another process, and when, in seconds
    since 1970.
    """

    def __init__(
        self, load: Callable[[], T], *, stale_is_fine: bool = False, known: tuple[T, float] | None = None
    ) -> None:
        self.load, self.stale_is_fine = load, stale_is_fine
        self._loading: asyncio.Task[T] | None = None
        self._known = known
        self._tried = float("-inf")
        self.away = ""
        """Why the last reading failed, in words for everybody; empty where it did not."""

    @property
    def age(self) -> float | None:
        """Seconds since the value was read; None where there is none."""
        return None if self._known is None else max(0.0, time.time() - self._known[1])

    async def value(self) -> T:
        """The value.

        Raises:
            Exception: it is too old, and ``load`` raised this; ``DatabaseUnavailable`` where the database is away.
        """
        known, now = self._known, time.monotonic()
        is_loading = self._loading is not None and not self._loading.done()
        if known is not None and not is_loading and now - self._tried < SECONDS:
            return known[0]
        if self._loading is None or not is_loading:
            self._tried = now
            self._loading = asyncio.ensure_future(self._read())
        if known is None or not self.stale_is_fine:
            return await asyncio.shield(self._loading)
        return await self._patient(self._loading, self._tried + PATIENCE_SECONDS - now, known)

    async def _patient(self, loading: asyncio.Task[T], seconds: float, known: tuple[T, float]) -> T:
        if seconds > 0:
            await asyncio.wait({loading}, timeout=seconds)
        if not loading.done() and (self.away or time.time() - known[1] < LATE_SECONDS):
            return known[0]
        return await asyncio.shield(loading)

    async def _read(self) -> T:
        began = time.time()
        try:
            self._known = await asyncio.to_thread(self.load), began
            self.away = ""
        except Exception as error:
            self._failed(error)
            if self._known is None or not self.stale_is_fine:
                self._tried = float("-inf")
                raise
        return self._known[0]

    def _failed(self, error: Exception) -> None:
        if isinstance(error, DatabaseUnavailable):
            self.away = AWAY
        elif self.away != REFUSED:
            self.away = REFUSED
            log.error("what routing needs cannot be read", exc_info=error)


class Catalog:
    """The release rows, the versions and the engines that routing needs, and the lines' redactions.

    With ``stale_is_fine`` the last known ones are good enough while they cannot be read, and ``keep`` is a file from
    which a gateway that starts meanwhile reads them.
    """

    def __init__(self, pin: str, *, stale_is_fine: bool, keep: Path | None = None) -> None:
        self.pin, self.stale_is_fine = pin, stale_is_fine
        self._kept = None if keep is None else Kept(keep)
        known = None if self._kept is None else self._kept.read(pin)
        self._snapshot = Fresh(self._read_snapshot, stale_is_fine=stale_is_fine, known=known)
        self._versions: dict[str, Fresh[NamedVersion | None]] = {}

    @property
    def age(self) -> float | None:
        """Seconds since the snapshot was read from the database; None where none is known."""
        return self._snapshot.age

    @property
    def away(self) -> str:
        """Why the snapshot could not be read when it was last tried; empty where it could."""
        return self._snapshot.away

    async def snapshot(self) -> Snapshot:
        """Everything that is not asked for by name.

        Raises:
            DatabaseUnavailable: it could not be read, and what is known will not do.
        """
        return await self._snapshot.value()

    async def version(self, name: str) -> NamedVersion | None:
        """The version called ``name``, or None. The database is not asked for a name that is too long for one.

        Raises:
            DatabaseUnavailable: as for ``snapshot``.
        """
        if len(name) > NAME_CHARACTERS:
            return None
        if name not in self._versions:
            if len(self._versions) >= NAMES:
                self._versions.clear()
            self._versions[name] = Fresh(lambda: _read_version(name), stale_is_fine=self.stale_is_fine)
        return await self._versions[name].value()

    def _read_snapshot(self) -> Snapshot:
        with transaction(READ_SECONDS) as session:
            pinned = releases.version_named(session, self.pin) if self.pin else None
            redactions = redacting.of_lines(session)
            read = Snapshot(releases.by_line(session), redactions, engines.reachable(session), pinned)
        if self._kept is not None:
            self._kept.write(read)
        return read


def _read_version(name: str) -> NamedVersion | None:
    with transaction(READ_SECONDS) as session:
        return releases.version_named(session, name)
