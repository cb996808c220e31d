from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from db.captured import Captured, Kind
from gateway.errors import Refusal
from gateway.refused import REFUSED
from gateway.segment import Found, Segment, encode
from gateway.spool import KEPT_SEGMENTS, Spool
from rl.errors import InvalidRow, StartError

ROOT = Path(__file__).parents[2]
MIB = 1 << 20


def call(number: int, size: int = 100) -> tuple[bytes, str]:
    """An encoded call of about ``size`` bytes, and its id."""
    return encode(Captured(Kind.CALL, (f"c{number}", "x" * size)), 1.0), f"c{number}"


def die(spool: Spool) -> None:
    """What becomes of a spool whose process is killed: its lock is free, and its files are as they are."""
    os.close(spool._lock)


def ids(spool: Spool) -> list[str | None]:
    """Everything that waits, in order; it is stored with that."""
    found = []
    while (batch := spool.read(3, MIB)) is not None:
        found += [record.fields[0] for record in batch.records]
        spool.done(batch)
    return found


def test_what_a_killed_gateway_wrote_is_there_for_the_next_one(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB)
    for number in range(10):
        spool.append(*call(number))
    batch = spool.read(4, MIB)
    assert batch is not None
    spool.done(batch)
    die(spool)

    after = Spool(tmp_path, MIB)

    assert (after.waiting, after.size) == (6, sum(len(call(number)[0]) for number in range(4, 10)))
    found = after.find("c7")
    assert found is not None
    assert found.fields[0] == "c7"
    assert after.find("c2") is not None, "it is stored, and a repeat of it is still known"
    assert after.age() > 1e9, "made a second after 1970"
    assert ids(after) == [f"c{number}" for number in range(4, 10)]
    assert (after.waiting, after.size, after.age()) == (0, 0, 0.0)
    after.forget()
    assert after.find("c7") is None, "it was made a second after 1970"
    after.append(*call(11))
    after.forget()
    assert ids(after) == ["c11"]
    after.forget()
    assert after.find("c11") is not None, "it was made a moment ago"
    after.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock"]


def test_a_torn_end_is_cut_off_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = Spool(tmp_path, MIB)
    for number in range(3):
        spool.append(*call(number))
    die(spool)
    (path,) = tmp_path.glob("*.segment")
    with path.open("ab") as stream:
        stream.write(call(3)[0][:-1])

    after = Spool(tmp_path, MIB)

    assert f"{len(call(3)[0]) - 1} bytes of a half-written record were cut off" in caplog.text
    after.append(*call(4))
    assert ids(after) == ["c0", "c1", "c2", "c4"]
    after.close()


def test_segments_are_deleted_once_all_of_them_is_stored(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB)
    for number in range(100):
        spool.append(*call(number, 5000))
    assert len(list(tmp_path.glob("*.segment"))) == 8  # of 64 KiB and one record each at most
    spool.sync()

    assert ids(spool) == [f"c{number}" for number in range(100)]

    assert len(list(tmp_path.glob("*.segment"))) == KEPT_SEGMENTS
    assert (spool.find("c0"), spool.find("c99") is None) == (None, False)
    spool.append(*call(100))
    die(spool)
    after = Spool(tmp_path, MIB)
    assert ids(after) == ["c100"]
    after.close()


def test_a_full_spool_refuses_and_takes_again_when_there_is_room(tmp_path: Path) -> None:
    data, _ = call(0)
    spool = Spool(tmp_path, 3 * len(data))
    for number in range(3):
        spool.append(*call(number))

    with pytest.raises(Refusal, match="RLFLEET_SPOOL_MB") as refused:
        spool.append(*call(3))

    assert (refused.value.status_code, refused.value.code) == (503, "spool_full")
    assert refused.value.headers == {"Retry-After": "10"}
    assert ids(spool) == ["c0", "c1", "c2"]
    spool.append(*call(3))
    assert ids(spool) == ["c3"]
    spool.close()


def test_two_gateways_cannot_have_one_spool(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB)

    with pytest.raises(StartError, match=f"used by the gateway of process {os.getpid()}.* RLFLEET_SPOOL_DIR"):
        Spool(tmp_path, MIB)

    spool.close()
    Spool(tmp_path, MIB).close()


def test_a_folder_that_cannot_be_used_is_named_with_the_remedy(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(StartError, match=r"file/spool cannot be used \(Not a directory\).*set RLFLEET_SPOOL_DIR"):
        Spool(file / "spool", MIB)

    (tmp_path / "00000001.segment").write_bytes(b"something else altogether")
    with pytest.raises(StartError, match="does not begin with"):
        Spool(tmp_path, MIB)


def test_what_the_database_refuses_is_kept_for_people(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB)
    record = Captured(Kind.CALL, ("c1", None))
    spool.refuse(record, InvalidRow("record", "<not shown>", "the database cannot hold it (DataError 22003)"))
    spool.close()

    (line,) = (tmp_path / REFUSED).read_text().splitlines()
    reason = "the database cannot hold it (DataError 22003)"
    said = json.loads(line)
    assert abs(time.time() - said.pop("at")) < 600
    assert said == {"kind": "call", "reason": reason, "fields": ["c1", None]}
    assert (tmp_path / REFUSED).stat().st_mode & 0o777 == 0o600
    after = Spool(tmp_path, MIB)
    assert after.refused == 1
    after.close()


def test_what_the_disk_gives_back_changed_holds_up_nothing_and_is_kept(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB)
    for number in range(40):
        spool.append(*call(number, 5000))
    first, *_ = sorted(tmp_path.glob("*.segment"))
    data = bytearray(first.read_bytes())
    data[5300] ^= 1  # in the second of its 14 records
    first.write_bytes(data)

    assert ids(spool)[:3] == ["c0", "c14", "c15"]
    assert (spool.waiting, spool.size) == (0, 0)
    assert [path.stat().st_size for path in tmp_path.glob("*.damaged")] == [len(data)]
    spool.close()


def test_what_is_stored_while_its_age_is_asked_is_not_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, MIB)
    spool.append(*call(0))
    looked = Segment.first

    def beside(segment: Segment, most: int, most_bytes: int) -> list[Found]:
        """Another thread stores the record between the choice of its segment and the reading."""
        monkeypatch.setattr(Segment, "first", looked)
        batch = spool.read(3, MIB)
        assert batch is not None
        spool.done(batch)
        return looked(segment, most, most_bytes)

    monkeypatch.setattr(Segment, "first", beside)
    assert spool.age() > 0, "and takes nothing from the disk that another reads"
    assert spool.read(3, MIB) is None

    spool.append(*call(1))
    assert (ids(spool), list(tmp_path.glob("*.damaged"))) == (["c1"], [])
    assert spool.find("c0") is not None
    spool.close()


def test_what_was_set_aside_before_is_not_overwritten(tmp_path: Path) -> None:
    for content in (b"first", b"second"):
        spool = Spool(tmp_path, MIB)
        spool.append(*call(0))
        (path,) = tmp_path.glob("*.segment")
        path.write_bytes(content)
        assert spool.read(1, MIB) is None
        spool.close()

    kept = {path.name: path.read_bytes() for path in tmp_path.glob("*.damaged")}
    assert kept == {"00000001.damaged": b"first", "00000001-2.damaged": b"second"}


def test_a_call_that_is_twice_in_a_segment_is_forgotten_with_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB)
    for _ in range(2):
        spool.append(*call(0))
    assert ids(spool) == ["c0", "c0"]
    die(spool)

    after = Spool(tmp_path, MIB)
    after.forget()

    assert (after.find("c0"), list(tmp_path.glob("*.segment"))) == (None, [])
    after.close()


FULL = """
import resource, sys
from pathlib import Path
from db.captured import Captured, Kind
from gateway.errors import Refusal
from gateway.segment import encode
from gateway.spool import Spool

def call(number):
    return encode(Captured(Kind.CALL, (f"c{number}", "x" * 500)), 1.0), f"c{number}"

spool = Spool(Path(sys.argv[1]), 1 << 30)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))
taken = []
for number in range(100):
    try:
        spool.append(*call(number))
        taken.append(number)
    except Refusal as refusal:
        assert (refusal.status_code, refusal.code) == (503, "spool_unwritable"), refusal
        break
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
spool.append(*call(1000))
print(*taken, 1000)
"""


def test_a_disk_that_is_full_refuses_and_holds_only_what_was_taken(tmp_path: Path) -> None:
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", FULL, str(tmp_path)]
    out = subprocess.run(words, env=environ, check=True, capture_output=True, text=True).stdout

    after = Spool(tmp_path, MIB)

    taken = [f"c{number}" for number in out.split()]
    assert len(taken) == 6
    assert ids(after) == taken
    after.close()
