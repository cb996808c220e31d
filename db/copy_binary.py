"""Postgres' binary COPY format, decoded as it comes in: no more than one unfinished row is kept.

A signature of 11 bytes, flags and the length of an extension, then rows: how many fields in two bytes, and each
field's length in four (-1 is null) before its bytes, everything with the highest byte first. -1 fields end it. Source:
"Binary Format" of Postgres' page on COPY.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any

SIGNATURE = b"PGCOPY\n\xff\r\n\0"
HEADER = len(SIGNATURE) + 8

_FIELDS, _LENGTH = Struct("!h"), Struct("!i")

Fields = list[Any]
"""Each is ``bytes``, or None for null."""


class Decoder:
    """Gives ``take`` each row's fields, whatever the pieces that it is fed.

    Attributes:
        read: How many bytes came.
    """

    def __init__(self, take: Callable[[Fields], object]) -> None:
        self._take = take
        self._rest = b""
        self._begun = self._ended = False
        self.read = 0

    def write(self, piece: bytes) -> None:
        """Take the next piece.

        Raises:
            ValueError: this is no COPY in the binary format, or something follows its end.
        """
        self.read += len(piece)
        data = self._rest + piece if self._rest else piece
        at = 0 if self._begun else self._header(data)
        while self._begun and at < len(data):
            after = self._row(data, at)
            if after is None:
                break
            at = after
        self._rest = data[at:]

    def close(self) -> None:
        """Make sure that the end was seen.

        Raises:
            ValueError: it was not.
        """
        if not self._ended:
            raise ValueError("the COPY was cut off")

    def _header(self, data: bytes) -> int:
        """Where the rows begin; 0 where that is not known yet."""
        if len(data) < HEADER:
            return 0
        after = HEADER + _LENGTH.unpack_from(data, HEADER - 4)[0]
        if not data.startswith(SIGNATURE):
            raise ValueError("this is no COPY in the binary format")
        if len(data) < after:
            return 0
        self._begun = True
        return int(after)

    def _row(self, data: bytes, at: int) -> int | None:
        """Where the row at ``at`` ends; None where it is not all there."""
        if self._ended:
            raise ValueError("something follows the end of the COPY")
        end, unpack = len(data), _LENGTH.unpack_from
        if at + 2 > end:
            return None
        (number,) = _FIELDS.unpack_from(data, at)
        at += 2
        if number < 0:
            self._ended = True
            return at
        fields: Fields = []
        for _ in range(number):
            begin = at + 4
            if begin > end:
                return None
            (length,) = unpack(data, at)
            at = begin + length
            if length < 0:
                at = begin
                fields.append(None)
            elif at > end:
                return None
            else:
                fields.append(data[begin:at])
        self._take(fields)
        return at
