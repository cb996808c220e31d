"""What routing needs to know, and the file that keeps the last of it for a gateway that starts without the database."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from db.engines import Address
from db.redacting import Redactions
from db.releases import LineReleases, NamedVersion
from rl.errors import InvalidSettings
from rl.redaction import Redaction

SCHEMA = 1
WRITE_SECONDS = 60.0
"""A snapshot that has not changed is written again after this, so that its age is known about as well."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """Lines by name and what they take out, engines with the newest first, what is known of the pinned version."""

    lines: dict[str, LineReleases]
    redactions: Redactions
    engines: list[Address]
    pinned: NamedVersion | None


@dataclass(frozen=True)
class _Stored:
    """A snapshot in words of JSON. ``unusable`` are the lines whose redaction is not understood, with the remedy."""

    schema: int
    read_at: float
    lines: dict[str, LineReleases]
    redactions: dict[str, Redaction | None]
    unusable: dict[str, tuple[str, str]]
    engines: list[Address]
    pinned: NamedVersion | None


STORED: TypeAdapter[_Stored] = TypeAdapter(_Stored)


class Kept:
    """The last snapshot in a file. It holds names, addresses and rules, and no secret."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last: Snapshot | None = None
        self._written = float("-inf")

    def read(self, pin: str) -> tuple[Snapshot, float] | None:
        """The snapshot and when it was read, in seconds since 1970; None where there is none that can be used.

        One that says nothing of the pinned version cannot be.
        """
        try:
            stored = STORED.validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            log.warning("the releases in %s cannot be read (%s) and are not used", self.path, type(error).__name__)
            return None
        if pin and (stored.pinned is None or stored.pinned.name != pin):
            return None
        unusable = {line: InvalidSettings(field, "<not shown>", why) for line, (field, why) in stored.unusable.items()}
        redactions = Redactions({**stored.redactions, **unusable})
        return Snapshot(stored.lines, redactions, stored.engines, stored.pinned if pin else None), stored.read_at

    def write(self, snapshot: Snapshot) -> None:
        """Keep the snapshot, whole or not at all. Where the disk refuses, the one before stays."""
        now = time.monotonic()
        if snapshot == self._last and now - self._written < WRITE_SECONDS:
            return
        self._last, self._written = snapshot, now
        temporary = self.path.with_name(f"{self.path.name}.new")
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as stream:
                stream.write(STORED.dump_json(_stored(snapshot)))
            temporary.rename(self.path)
        except OSError as error:
            log.warning("the releases cannot be kept in %s: %s", self.path, error.strerror)


def _stored(snapshot: Snapshot) -> _Stored:
    every: dict[str, Any] = dict(snapshot.redactions.by_line)
    unusable = {line: (one.field, one.remedy) for line, one in every.items() if isinstance(one, InvalidSettings)}
    usable = {line: one for line, one in every.items() if line not in unusable}
    engines, pinned = snapshot.engines, snapshot.pinned
    return _Stored(SCHEMA, time.time(), snapshot.lines, usable, unusable, engines, pinned)
