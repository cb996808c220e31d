"""One append-only file of events, and how far the server has answered them.

    8 bytes   MAGIC
    8 bytes   offset before which every event was answered, little-endian
    then for each event: 4 bytes of length, 4 bytes of CRC-32, the event as JSON

What breaks without the checksums: a process that is killed, or a machine that loses power, leaves half an event at
the end, and a replay would send it.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

MAGIC = b"rlfleet1"
HEADER = 16
_PREFIX = struct.Struct("<II")
_OFFSET = struct.Struct("<Q")


class Segment:
    """``size`` and ``acked`` are offsets in bytes; ``pending`` counts the events between them.

    Not thread-safe. A segment that is created stays open for appending until it is sealed; one that is recovered is
    opened for each operation, so that a long backlog holds no descriptors.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = self.acked = HEADER
        self.pending = 0
        self._fd: int | None = None
        self._is_doubtful = False

    @classmethod
    def create(cls, path: Path) -> Segment:
        """A new, empty segment whose name is durable.

        Raises:
            OSError: the file exists, or the disk refuses.
        """
        segment = cls(path)
        segment._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            write_at(segment._fd, MAGIC + _OFFSET.pack(HEADER), 0)
            sync_folder(path.parent)
        except OSError:
            segment.close()
            raise
        return segment

    @classmethod
    def recover(cls, path: Path) -> tuple[Segment, int]:
        """The segment that another process left, and how many bytes of a torn end were cut off it."""
        segment = cls(path)
        with segment._opened() as fd:
            data = os.pread(fd, os.fstat(fd).st_size, 0)
            segment._scan(data)
            kept = segment.size if len(data) >= HEADER and data[: len(MAGIC)] == MAGIC else 0
            if kept < len(data):
                os.ftruncate(fd, kept)
        return segment, len(data) - kept

    @staticmethod
    def cost(event: bytes) -> int:
        """How many bytes the event takes in a segment."""
        return _PREFIX.size + len(event)

    def append(self, events: Sequence[bytes]) -> None:
        """Write the events behind the others; they outlive this process, and after ``sync`` the machine.

        Raises:
            OSError: the disk refuses; nothing was added.
        """
        blob = b"".join(part for event in events for part in (_PREFIX.pack(len(event), zlib.crc32(event)), event))
        with self._opened() as fd:
            write_at(fd, blob, self.size)
        self.size += len(blob)
        self.pending += len(events)

    def read(self, max_events: int, max_bytes: int) -> tuple[list[bytes], int]:
        """The first unanswered events, at least one if there is one, and the offset behind them."""
        with self._opened() as fd:
            data = os.pread(fd, min(self.size - self.acked, max_bytes), self.acked)
            events = list(_whole(data, max_events))
            if not events and self.acked < self.size:
                length, _ = _PREFIX.unpack(os.pread(fd, _PREFIX.size, self.acked))
                events = [os.pread(fd, length, self.acked + _PREFIX.size)]
        return events, self.acked + sum(map(self.cost, events))

    def acknowledge(self, count: int, end: int) -> None:
        """``count`` more events, up to ``end``, were answered. An emptied segment starts over from its beginning.

        Raises:
            OSError: the disk refuses; they are answered all the same, and a later process sends them again.
        """
        self.acked, self.pending = end, self.pending - count
        is_empty = self.acked == self.size
        if is_empty:
            self.acked = self.size = HEADER
            self._is_doubtful = False
        with self._opened() as fd:
            if is_empty:
                os.ftruncate(fd, HEADER)
            write_at(fd, _OFFSET.pack(self.acked), len(MAGIC))

    def sync(self) -> None:
        """Have the disk hold everything that was appended.

        After a failure the kernel may have forgotten which pages it could not write, and would call the next attempt
        a success; so every attempt fails until the server has answered what is here.

        Raises:
            OSError: it does not.
        """
        if self._is_doubtful:
            raise OSError(errno.EIO, f"{self.path.name} could not be synced before")
        with self._opened() as fd:
            self._is_doubtful = True
            os.fsync(fd)
            self._is_doubtful = False

    def close(self) -> None:
        """Give the descriptor back; no ``append`` follows."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def remove(self) -> None:
        """Close and delete it."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _scan(self, data: bytes) -> None:
        """Set the offsets from what is in the file: up to the first event that is not whole."""
        if data[: len(MAGIC)] != MAGIC or len(data) < HEADER:
            return
        (acked,) = _OFFSET.unpack_from(data, len(MAGIC))
        start = acked if HEADER <= acked <= len(data) else HEADER
        events = list(_whole(data[start:], checked=True))
        if not events and start > HEADER and start < len(data):
            start, events = HEADER, list(_whole(data[HEADER:], checked=True))  # the offset points between events
        self.acked, self.pending = start, len(events)
        self.size = start + sum(map(self.cost, events))

    @contextmanager
    def _opened(self) -> Iterator[int]:
        if self._fd is not None:
            yield self._fd
            return
        fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)


def _whole(data: bytes, max_events: int | None = None, *, checked: bool = False) -> Iterator[bytes]:
    """The events of ``data`` up to the first that is cut off or, if ``checked``, whose checksum differs."""
    offset = found = 0
    while offset + _PREFIX.size <= len(data) and found != max_events:
        length, crc = _PREFIX.unpack_from(data, offset)
        event = data[offset + _PREFIX.size : offset + _PREFIX.size + length]
        if len(event) < length or length == 0 or (checked and zlib.crc32(event) != crc):
            return
        yield event
        offset, found = offset + _PREFIX.size + length, found + 1


def write_at(fd: int, data: bytes, offset: int) -> None:
    """Write all of ``data`` at ``offset``.

    Raises:
        OSError: the disk refuses, perhaps after a part of it.
    """
    rest = memoryview(data)
    while rest:
        written = os.pwrite(fd, rest, offset)
        rest, offset = rest[written:], offset + written


def sync_folder(path: Path) -> None:
    """Have the disk hold the names in the folder.

    Raises:
        OSError: it does not.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
