from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.segment import HEADER, Segment

EVENTS = [b'{"a":1}', b'{"bb":22}', b'{"ccc":333}']


def made(path: Path, events: list[bytes]) -> Segment:
    segment = Segment.create(path / "1.segment")
    segment.append(events)
    segment.close()
    return segment


def test_events_come_back_in_order_and_an_acknowledgement_outlives_the_process(tmp_path: Path) -> None:
    segment = made(tmp_path, EVENTS)
    assert segment.read(2, 1 << 20) == (EVENTS[:2], HEADER + 8 + 7 + 8 + 9)
    segment.acknowledge(1, HEADER + 8 + 7)
    again, cut = Segment.recover(segment.path)
    assert (again.pending, cut) == (2, 0)
    assert again.read(9, 1 << 20)[0] == EVENTS[1:]


def test_a_record_is_its_length_its_checksum_and_its_bytes(tmp_path: Path) -> None:
    segment = made(tmp_path, [b"{}"])
    crc_of_braces = 0xA3A6BF43  # CRC-32/ISO-HDLC of "{}"
    assert segment.path.read_bytes() == b"rlfleet1" + struct.pack("<QII", 16, 2, crc_of_braces) + b"{}"


def test_reading_stops_at_the_bytes_but_gives_at_least_one_event(tmp_path: Path) -> None:
    segment = made(tmp_path, EVENTS)
    assert segment.read(9, 8 + 7 + 8 + 8)[0] == EVENTS[:1]
    assert segment.read(9, 3)[0] == EVENTS[:1]


@given(keep=st.integers(0, HEADER + sum(8 + len(event) for event in EVENTS)))
def test_a_file_cut_anywhere_gives_the_whole_events_before_the_cut(
    tmp_path_factory: pytest.TempPathFactory, keep: int
) -> None:
    segment = made(tmp_path_factory.mktemp("cut"), EVENTS)
    os.truncate(segment.path, keep)
    again, cut = Segment.recover(segment.path)
    ends = [HEADER + 15, HEADER + 15 + 17, HEADER + 15 + 17 + 19]
    whole = sum(end <= keep for end in ends)
    assert again.pending == whole
    assert (again.read(9, 1 << 20)[0] if whole else []) == EVENTS[:whole]
    assert cut == (keep - ([HEADER, *ends][whole]) if keep >= HEADER else keep)


def test_an_event_whose_bytes_changed_is_cut_off_with_what_follows(tmp_path: Path) -> None:
    segment = made(tmp_path, EVENTS)
    with segment.path.open("r+b") as file:
        file.seek(HEADER + 15 + 8)
        file.write(b"x")
    again, cut = Segment.recover(segment.path)
    assert (again.pending, cut) == (1, 17 + 19)


def test_an_emptied_segment_starts_over(tmp_path: Path) -> None:
    segment = Segment.create(tmp_path / "1.segment")
    segment.append(EVENTS)
    _, end = segment.read(9, 1 << 20)
    segment.acknowledge(3, end)
    assert (segment.path.stat().st_size, segment.pending) == (HEADER, 0)
    segment.append([b"{}"])
    assert segment.read(9, 1 << 20)[0] == [b"{}"]
    segment.close()


def test_after_a_failed_sync_every_sync_fails_until_the_events_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = made(tmp_path, EVENTS)

    def broken(fd: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("recorder.segment.os.fsync", broken)
        with pytest.raises(OSError, match="Input/output error"):
            segment.sync()
    with pytest.raises(OSError, match="could not be synced before"):
        segment.sync()
    segment.acknowledge(3, segment.size)
    segment.sync()
