"""Captured records on disk, from before their answer is given until they are stored.

A folder with numbered segments, one owner by a lock, and beside them what the database refuses for itself. A record is
in the operating system when ``append`` returns, so ``kill -9`` loses none. One that is not stored within
``SYNC_SECONDS`` is forced to the disk then, so a power cut may lose the last moments. What is stored is kept for a
while too, so that a repeated call is known where the database is away.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from db.captured import Captured, Kind
from gateway.errors import RETRY_AFTER_SECONDS, Refusal, unavailable
from gateway.folder import locked, sync_names
from gateway.refused import REFUSED, Refused
from gateway.segment import Found, Segment, decode
from rl.errors import InvalidRow, StartError

SUFFIX, DAMAGED = ".segment", ".damaged"
LEAST_SEGMENT_BYTES = 64 << 10
SEGMENTS = 64
"""A full spool is about so many files."""
SYNC_SECONDS = 1.0
KEPT_SECONDS = 600.0
"""A segment takes records for so long, and stays for so long after they are stored: a retry follows its first try
closely, and conversations are private."""
KEPT_SEGMENTS = 2

log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """Records that were read to be stored, and where they lie."""

    segment: Segment
    found: Sequence[Found]

    @property
    def records(self) -> list[Captured]:
        return [one.record for one in self.found]


class Spool:
    """At most ``limit`` bytes of records that are not stored. Thread-safe: one thread appends, another stores.

    Raises:
        StartError: another gateway has the folder, or it cannot be used.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self.segment_bytes = max(LEAST_SEGMENT_BYTES, limit // SEGMENTS)
        self._mutex = threading.Lock()
        self._segments: deque[Segment] = deque()
        self._places: dict[str, tuple[Segment, int, int]] = {}
        self._is_refusing = False
        self._is_grown = False
        try:
            self._lock = locked(folder)
            self._recover()
            self._refused = Refused(folder / REFUSED)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            remedy = "give the folder to the gateway's account, or set RLFLEET_SPOOL_DIR to a folder of its own"
            raise StartError(f"the spool {folder} cannot be used ({reason}): {remedy}") from error

    @property
    def refused(self) -> int:
        """How many records are kept that the database refused."""
        return self._refused.count

    @property
    def waiting(self) -> int:
        """How many records are not stored."""
        return sum(segment.records for segment in list(self._segments))

    @property
    def size(self) -> int:
        """Bytes of records that are not stored."""
        return sum(segment.waiting for segment in list(self._segments))

    def append(self, data: bytes, call_id: str | None) -> None:
        """Write an encoded record; ``call_id`` is what ``find`` finds it by.

        Raises:
            Refusal: 503, the spool is full, or its disk refuses. It was not written.
        """
        try:
            with self._mutex:
                if self.size + len(data) > self.limit:
                    raise _full(self.limit)
                segment, start = self._write(data)
                self._is_refusing = False
                if call_id is not None:
                    self._know(call_id, segment, start, segment.size)
        except OSError as error:
            if not self._is_refusing:
                log.error("the spool %s cannot be written: %s", self.folder, error.strerror)
            self._is_refusing = True
            raise _unwritable(error) from error

    def find(self, call_id: str) -> Captured | None:
        """The call of that id, if it is here."""
        with self._mutex:
            if (place := self._places.get(call_id)) is None:
                return None
            segment, start, end = place
            found = decode(segment.read(start, end - start))
        return None if found is None else found.record

    def read(self, most: int, most_bytes: int) -> Batch | None:
        """The oldest records that are not stored, or None."""
        while True:
            with self._mutex:
                segment = next((one for one in self._segments if one.waiting), None)
            if segment is None:
                return None
            if found := segment.first(most, most_bytes):
                return Batch(segment, found)
            self._set_aside(segment)

    def done(self, batch: Batch) -> None:
        """The records of the batch are stored. Older segments that hold no other are deleted.

        Raises:
            OSError: the disk refuses; another process would store some again.
        """
        with self._mutex:
            batch.segment.mark(batch.found[-1].end, len(batch.found))
            while len(self._segments) > KEPT_SEGMENTS and not self._segments[0].waiting:
                self._remove(self._segments[0])

    def forget(self) -> None:
        """Delete what was stored and is older than ``KEPT_SECONDS``, and what was refused long ago.

        Raises:
            OSError: the disk refuses.
        """
        with self._mutex:
            for segment in list(self._segments):
                if not segment.waiting and segment.until < time.time() - KEPT_SECONDS:
                    self._remove(segment)
        self._refused.prune(time.time())

    def refuse(self, record: Captured, error: InvalidRow) -> None:
        """Keep what the database refuses where a person can read it, and count it.

        Raises:
            OSError: the disk refuses.
        """
        self._refused.add(record, error.remedy, time.time())
        log.error("record %s cannot be stored and is kept in %s: %s", record.fields[0], REFUSED, error.remedy)

    def age(self) -> float:
        """Seconds since the oldest record that is not stored was made; 0 where there is none."""
        with self._mutex:
            made_at = next((one.oldest() for one in self._segments if one.waiting), None)
        return 0.0 if made_at is None else max(0.0, time.time() - made_at)

    def sync(self) -> None:
        """Have the disk hold every record that is not stored.

        Raises:
            OSError: it does not.
        """
        if self._is_grown:
            self._is_grown = False
            sync_names(self.folder)
        for segment, size, fd in self._unsynced():
            try:
                os.fdatasync(fd)
                segment.synced = size
            finally:
                os.close(fd)

    def close(self) -> None:
        """Delete what is stored and give up the lock; the rest is for the next gateway on this folder."""
        with self._mutex:
            for segment in list(self._segments):
                if segment.waiting:
                    segment.close()
                else:
                    self._remove(segment)
            os.close(self._lock)

    def _write(self, data: bytes) -> tuple[Segment, int]:
        """Where it lies. A disk that refuses is asked again when what is stored was deleted."""
        now = time.time()
        try:
            segment = self._open(now)
            return segment, segment.append(data, now)
        except OSError:
            for stored in [one for one in self._segments if not one.waiting]:
                self._remove(stored)
            segment = self._open(now)
            return segment, segment.append(data, now)

    def _open(self, now: float) -> Segment:
        """The segment to append to; another one when the last is long enough, or has gone on for long enough."""
        last = self._segments[-1] if self._segments else None
        if last is None or last.size >= self.segment_bytes or 0 < last.since < now - KEPT_SECONDS:
            number = int(last.path.stem) + 1 if last else 1
            new = Segment.create(self.folder / f"{number:08d}{SUFFIX}")
            self._is_grown = True
            self._segments.append(new)
            return new
        return last

    def _know(self, call_id: str, segment: Segment, start: int, end: int) -> None:
        self._places[call_id] = segment, start, end
        segment.calls.append(call_id)

    def _set_aside(self, segment: Segment) -> None:
        """A disk that gives back something else than was written must not hold up what comes after."""
        with self._mutex:
            if segment not in self._segments or not segment.waiting:
                return  # stored meanwhile
            kept = segment.path.rename(_free(segment.path.with_suffix(DAMAGED)))
            log.error("%d records cannot be read and are not stored; they are kept in %s", segment.records, kept)
            self._remove(segment)

    def _remove(self, segment: Segment) -> None:
        self._segments.remove(segment)
        for call_id in segment.calls:
            if call_id in self._places and self._places[call_id][0] is segment:
                del self._places[call_id]
        segment.remove()

    def _unsynced(self) -> list[tuple[Segment, int, int]]:
        """Segments that the disk may not hold, with descriptors of our own: theirs may be closed at any moment."""
        with self._mutex:
            late = [one for one in self._segments if one.waiting and one.synced < one.size]
            return [(one, one.size, os.dup(one.fd)) for one in late]

    def _recover(self) -> None:
        """Read back what the last gateway on this folder left."""
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            segment, found, cut = Segment.recover(path)
            if cut:
                log.warning("%d bytes of a half-written record were cut off %s", cut, path)
            self._segments.append(segment)
            for one in found:
                if one.record.kind is Kind.CALL:
                    self._know(str(one.record.fields[0]), segment, one.start, one.end)
        if self.waiting:
            log.warning("%d captured records were left in %s and are stored now", self.waiting, self.folder)


def _free(path: Path) -> Path:
    """The path, with a number where it is taken: numbers of segments come again, and what is kept must not go."""
    others = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
    return next(one for one in itertools.chain([path], others) if not one.exists())


def _full(limit: int) -> Refusal:
    said = f"the spool holds RLFLEET_SPOOL_MB = {limit >> 20} MiB of calls that the database has not taken; try again"
    return unavailable("spool_full", said, str(RETRY_AFTER_SECONDS * 5))


def _unwritable(error: OSError) -> Refusal:
    why = f"the call cannot be written to the spool, so it is not answered ({os.strerror(error.errno or 0)})"
    return unavailable("spool_unwritable", f"{why}; make room on its disk", str(RETRY_AFTER_SECONDS * 5))
