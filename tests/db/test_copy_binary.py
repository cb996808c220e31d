"""The binary COPY format in pieces of any size, against what ``struct`` packs."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.copy_binary import SIGNATURE, Decoder, Fields

FIELDS = st.lists(st.none() | st.binary(max_size=40), max_size=6)


def packed(rows: list[Fields], extension: bytes = b"") -> bytes:
    parts = [SIGNATURE, struct.pack("!ii", 0, len(extension)), extension]
    for row in rows:
        parts.append(struct.pack("!h", len(row)))
        parts += [b"\xff\xff\xff\xff" if one is None else struct.pack("!i", len(one)) + one for one in row]
    return b"".join([*parts, struct.pack("!h", -1)])


def decoded(pieces: list[bytes]) -> list[Fields]:
    rows: list[Fields] = []
    decoder = Decoder(rows.append)
    for piece in pieces:
        decoder.write(piece)
    decoder.close()
    assert decoder.read == sum(map(len, pieces))
    return rows


@given(st.lists(FIELDS, max_size=8), st.binary(max_size=5), st.lists(st.integers(0, 400), max_size=12))
def test_rows_are_the_same_wherever_the_pieces_end(rows: list[Fields], extension: bytes, cuts: list[int]) -> None:
    whole = packed(rows, extension)
    ends = sorted({min(cut, len(whole)) for cut in cuts} | {len(whole)})
    pieces = [whole[first:last] for first, last in zip([0, *ends], ends, strict=False)]
    assert decoded(pieces) == rows


def test_rows_come_byte_by_byte() -> None:
    rows: list[Fields] = [[b"one", None, b""], [b"\xff" * 9]]
    assert decoded([bytes([one]) for one in packed(rows)]) == rows


def test_what_is_no_copy_is_refused() -> None:
    with pytest.raises(ValueError, match="no COPY in the binary format"):
        Decoder(print).write(b"trajectory_id\tturn\tplace\n")
    decoder = Decoder(print)
    decoder.write(packed([]))
    with pytest.raises(ValueError, match="follows the end"):
        decoder.write(b"\0\0")


@pytest.mark.parametrize("left", [0, 3, 20, 27])
def test_a_copy_that_is_cut_off_is_noticed(left: int) -> None:
    decoder = Decoder(lambda _: None)
    decoder.write(packed([[b"abcd"]])[:left])
    with pytest.raises(ValueError, match="cut off"):
        decoder.close()
