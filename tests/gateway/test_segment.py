from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.captured import Captured, Kind
from gateway.segment import HEADER, MAGIC, Segment, decode, encode, whole

FIELDS = st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=40), max_size=6)
RECORDS = st.lists(st.builds(Captured, st.sampled_from(Kind), FIELDS.map(tuple)), min_size=1, max_size=8)


@given(RECORDS, st.floats(0, 4e9))
def test_what_is_encoded_is_decoded(records: list[Captured], made_at: float) -> None:
    data = b"".join(encode(record, made_at) for record in records)
    found = list(whole(data, HEADER))

    assert [one.record for one in found] == records
    assert {one.made_at for one in found} == {made_at}
    assert (found[0].start, found[-1].end) == (HEADER, HEADER + len(data))
    assert [one.start for one in found[1:]] == [one.end for one in found[:-1]]


@given(RECORDS, st.data())
def test_what_is_cut_off_anywhere_loses_nothing_before_the_cut(records: list[Captured], data: st.DataObject) -> None:
    parts = [encode(record, 1.0) for record in records]
    written = b"".join(parts)
    cut = data.draw(st.integers(0, len(written)))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "00000001.segment"
        segment = Segment.create(path)
        segment.append(written, 1.0)
        os.ftruncate(segment.fd, HEADER + cut)
        segment.close()

        recovered, found, torn = Segment.recover(path)

        ends = [sum(map(len, parts[: count + 1])) for count in range(len(parts))]
        assert [one.record for one in found] == records[: sum(end <= cut for end in ends)]
        assert torn == cut - max([0, *(end for end in ends if end <= cut)])
        assert os.fstat(recovered.fd).st_size == recovered.size == HEADER + cut - torn
        recovered.append(encode(records[0], 2.0), 2.0)
        assert [one.record for one in recovered.first(100, 1 << 20)] == [*(one.record for one in found), records[0]]
        recovered.close()


@given(RECORDS, st.data())
def test_a_changed_byte_is_never_taken_for_what_was_said(records: list[Captured], data: st.DataObject) -> None:
    written = bytearray(b"".join(encode(record, 1.0) for record in records))
    at = data.draw(st.integers(0, len(written) - 1))
    written[at] ^= 1 << data.draw(st.integers(0, 7))

    found = [one.record for one in whole(bytes(written))]

    assert found == records[: len(found)]
    assert len(found) < len(records)


def test_a_known_record_has_these_bytes() -> None:
    data = encode(Captured(Kind.REFUSAL, ("t1", None)), 0.0)

    body = bytes(8) + b"\x03" + b"\x02\0\0\0t1" + b"\xff\xff\xff\xff"
    assert data == len(body).to_bytes(4, "little") + crc32(body).to_bytes(4, "little") + body
    assert decode(data[:-1]) is None


def test_what_is_stored_is_not_read_again(tmp_path: Path) -> None:
    segment = Segment.create(tmp_path / "00000001.segment")
    for number in range(5):
        segment.append(encode(Captured(Kind.REFUSAL, (f"t{number}", None)), 1.0), 1.0)
    segment.mark(segment.first(2, 1 << 20)[-1].end, 2)
    segment.close()

    recovered, found, torn = Segment.recover(segment.path)

    assert ([one.record.fields[0] for one in found], torn) == (["t0", "t1", "t2", "t3", "t4"], 0)
    assert [one.record.fields[0] for one in recovered.first(2, 1 << 20)] == ["t2", "t3"]
    assert len(recovered.first(100, 1)) == 1, "one that is larger than the bound is read all the same"
    recovered.mark(HEADER + 3, 0)  # what no gateway writes: all are stored again, under their ids
    recovered.close()
    assert len(Segment.recover(segment.path)[0].first(100, 1 << 20)) == 5


@pytest.mark.parametrize("content", [b"", MAGIC[:3], MAGIC, MAGIC + b"\x10", bytes(64)])
def test_a_segment_that_was_hardly_begun_is_empty(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "00000001.segment"
    path.write_bytes(content)

    segment, found, _ = Segment.recover(path)

    assert (found, segment.waiting) == ([], 0)
    written = Captured(Kind.REFUSAL, ("t1", None))
    segment.append(encode(written, 1.0), 1.0)
    segment.close()
    assert [one.record for one in Segment.recover(path)[1]] == [written], (
        "what it takes then is there at the next start"
    )


def test_what_lies_behind_a_header_that_a_power_cut_took_is_kept(tmp_path: Path) -> None:
    segment = Segment.create(tmp_path / "00000001.segment")
    written = [Captured(Kind.REFUSAL, (f"t{number}", None)) for number in range(3)]
    for record in written:
        segment.append(encode(record, 1.0), 1.0)
    segment.mark(segment.first(1, 1 << 20)[0].end, 1)
    os.pwrite(segment.fd, bytes(HEADER), 0)
    segment.close()

    recovered, found, torn = Segment.recover(segment.path)

    assert ([one.record for one in found], torn, recovered.records) == (written, 0, 3)
    recovered.close()
    assert len(Segment.recover(segment.path)[1]) == 3


def test_the_oldest_is_the_first_that_is_not_stored(tmp_path: Path) -> None:
    segment = Segment.create(tmp_path / "00000001.segment")
    for made_at in (10.0, 20.0, 30.0):
        segment.append(encode(Captured(Kind.REFUSAL, ("t1", None)), made_at), made_at)
    first, second = segment.first(2, 1 << 20)

    assert segment.oldest() == 10.0
    segment.mark(first.end, 1)
    assert segment.oldest() == 20.0
    os.pwrite(segment.fd, b"\xff" * 8, second.start + 8)
    assert segment.oldest() == 10.0, "the time is damaged: no number"
    segment.close()


def test_another_file_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "00000001.segment"
    path.write_bytes(b"rlfgate2" + bytes(100))

    with pytest.raises(ValueError, match="does not begin with"):
        Segment.recover(path)
    assert path.stat().st_size == 108
