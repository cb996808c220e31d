"""One append-only file of captured records, and how far they are stored.

    8 bytes   MAGIC
    8 bytes   offset before which every record is stored, little-endian
    then for each record: 4 bytes of length and 4 of CRC-32, both of what follows; 8 bytes of seconds since 1970 as a
    double; 1 byte of kind; then for each field 4 bytes of length (all ones: null) and UTF-8

What breaks without the checksums: a process that is killed in the middle of a write leaves a part of a record, and what
is stored would be something that nobody said.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from db.captured import Captured, Kind

MAGIC = b"rlfgate1"
HEADER = 16
_OFFSET = struct.Struct("<Q")
_PREFIX = struct.Struct("<II")
_HEAD = struct.Struct("<dB")
_LENGTH = struct.Struct("<I")
NULL = 2**32 - 1
_NULL = _LENGTH.pack(NULL)


class Found(NamedTuple):
    """A record in a segment: where it begins and ends, when it was made, and what it says."""

    start: int
    end: int
    made_at: float
    record: Captured


def encode(record: Captured, made_at: float) -> bytes:
    """The record as it lies in a segment. ``made_at`` is seconds since 1970."""
    parts = [_HEAD.pack(made_at, record.kind)]
    for field in record.fields:
        if field is None:
            parts.append(_NULL)
        else:
            said = field.encode()
            parts += (_LENGTH.pack(len(said)), said)
    body = b"".join(parts)
    return _PREFIX.pack(len(body), zlib.crc32(body)) + body


def decode(data: bytes, start: int = 0, base: int = 0) -> Found | None:
    """The record at ``start`` of ``data``, which lies at ``base`` of its file; None where it is not whole.

    Raises:
        ValueError: it is of a kind that this version does not know.
    """
    begin = start + _PREFIX.size
    if begin > len(data):
        return None
    length, crc = _PREFIX.unpack_from(data, start)
    end = begin + length
    if end > len(data) or length < _HEAD.size or zlib.crc32(memoryview(data)[begin:end]) != crc:
        return None
    made_at, kind = _HEAD.unpack_from(data, begin)
    fields: list[str | None] = []
    at = begin + _HEAD.size
    while at < end:
        (size,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if size == NULL:
            fields.append(None)
        else:
            fields.append(data[at : at + size].decode())
            at += size
    return Found(base + start, base + end, made_at, Captured(Kind(kind), tuple(fields)))


def whole(data: bytes, base: int = 0) -> Iterator[Found]:
    """The records of ``data`` up to the first that is cut off, or whose checksum differs."""
    at = 0
    while (found := decode(data, at, base)) is not None:
        yield found
        at = found.end - base


class Segment:
    """``size`` and ``stored`` are offsets, ``records`` how many lie between them, ``calls`` the ids of its calls.

    ``since`` and ``until`` are the times of its first and its last record.

    Not thread-safe; reading may go on beside appending.
    """

    def __init__(self, path: Path, flags: int = 0) -> None:
        self.path = path
        self.size = self.stored = HEADER
        self.synced = self.records = 0
        self.calls: list[str] = []
        self.since = self.until = 0.0
        self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o600)

    @classmethod
    def create(cls, path: Path) -> Segment:
        """A new, empty one.

        Raises:
            OSError: the file exists, or the disk refuses; there is no file then that was not there before.
        """
        segment = cls(path, os.O_CREAT | os.O_EXCL)
        try:
            segment._write(MAGIC + _OFFSET.pack(HEADER), 0)
        except OSError:
            segment.remove()
            raise
        return segment

    @classmethod
    def recover(cls, path: Path) -> tuple[Segment, list[Found], int]:
        """What another process left: the segment, its records, and how many bytes of a torn end were cut off.

        A header that is not whole is written again, and what lies behind it is kept.

        Raises:
            OSError: it cannot be read, or the disk refuses.
            ValueError: it is something else, or of another version.
        """
        segment = cls(path)
        data = segment.read(0, os.fstat(segment.fd).st_size)
        if data[: len(MAGIC)].strip(b"\0") and not data.startswith(MAGIC[: len(data)]):
            segment.close()
            raise ValueError(f"{path.name} does not begin with {MAGIC!r}")
        found = segment._scan(data)
        if segment.size < len(data):
            os.ftruncate(segment.fd, segment.size)
        segment.synced = segment.size
        if data[: len(MAGIC)] != MAGIC or len(data) < HEADER:
            os.pwrite(segment.fd, MAGIC + _OFFSET.pack(HEADER), 0)
            segment.synced = 0
        return segment, found, max(0, len(data) - segment.size)

    @property
    def waiting(self) -> int:
        """Bytes of records that are not stored."""
        return self.size - self.stored

    def append(self, data: bytes, made_at: float) -> int:
        """Write a record that was encoded behind the others, with one call of the system. Where it begins.

        Raises:
            OSError: the disk refuses; nothing was added.
        """
        start = self.size
        self._write(data, start)
        self.size, self.until = start + len(data), made_at
        self.since = self.since or made_at
        self.records += 1
        return start

    def _write(self, data: bytes, offset: int) -> None:
        try:
            written = os.pwrite(self.fd, data, offset)
            while written < len(data):  # a disk that fills up takes a part, and then says why
                written += os.pwrite(self.fd, data[written:], offset + written)
        except OSError:
            os.ftruncate(self.fd, min(offset, os.fstat(self.fd).st_size))
            raise

    def read(self, start: int, length: int) -> bytes:
        """So many bytes from ``start`` on, or all there are."""
        parts, end = [], start + length
        while start < end and (part := os.pread(self.fd, end - start, start)):
            parts.append(part)
            start += len(part)
        return b"".join(parts)

    def first(self, most: int, most_bytes: int) -> list[Found]:
        """The first records that are not stored, at least one if there is one."""
        start, size = self.stored, self.size
        data = self.read(start, min(size - start, most_bytes))
        found = [one for _, one in zip(range(most), whole(data, start), strict=False)]
        if not found and start < size:
            found = list(whole(self.read(start, size - start), start))[:1]
        return found

    def oldest(self) -> float:
        """When the first record that is not stored was made, in seconds since 1970; there must be one.

        Its checksum is not looked at, so a damaged one is given a time between the first and the last.
        """
        head = self.read(self.stored + _PREFIX.size, _HEAD.size)
        made_at = _HEAD.unpack(head)[0] if len(head) == _HEAD.size else self.since
        return min(self.until, max(self.since, made_at))

    def mark(self, end: int, records: int) -> None:
        """So many more records, up to ``end``, are stored.

        Raises:
            OSError: the disk refuses; another process would store some again.
        """
        self.stored, self.records = end, self.records - records
        os.pwrite(self.fd, _OFFSET.pack(end), len(MAGIC))

    def close(self) -> None:
        os.close(self.fd)

    def remove(self) -> None:
        """Close and delete it."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _scan(self, data: bytes) -> list[Found]:
        """Set the offsets from what is in the file."""
        (stored,) = _OFFSET.unpack_from(data, len(MAGIC)) if len(data) >= HEADER else (HEADER,)
        every = list(whole(data[HEADER:], HEADER))
        self.size = every[-1].end if every else HEADER
        # An offset that lies between records cannot be ours: all are stored again, each under its id.
        self.stored = stored if stored in {HEADER, *(one.end for one in every)} else HEADER
        self.records = sum(one.start >= self.stored for one in every)
        self.since, self.until = (every[0].made_at, every[-1].made_at) if every else (0.0, 0.0)
        return every
