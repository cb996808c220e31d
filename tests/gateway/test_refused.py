"""How long what the database refuses is kept, and how much of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from db.captured import Captured, Kind
from gateway import refused
from gateway.refused import KEPT_DAYS, REFUSED, Refused

DAY = 86_400
NOW = 1_736_899_200.0  # 15 January 2025


def add(kept: Refused, number: int, at: float, size: int = 10) -> None:
    kept.add(Captured(Kind.CALL, (f"c{number}", "x" * size)), "too large", at)


def ids(path: Path) -> list[str]:
    return [json.loads(line)["fields"][0] for line in path.read_text().splitlines()]


def test_what_is_old_goes(tmp_path: Path) -> None:
    path = tmp_path / REFUSED
    kept = Refused(path)
    for number, days in enumerate([40, 31, 29, 0]):
        add(kept, number, NOW - days * DAY)
    assert (kept.count, Refused(path).count) == (4, 4)

    kept.prune(NOW)

    assert (kept.count, ids(path)) == (2, ["c2", "c3"])
    assert path.stat().st_mode & 0o777 == 0o600
    again = Refused(path)
    again.prune(NOW + (KEPT_DAYS - 28) * DAY)
    assert (again.count, ids(path)) == (1, ["c3"])
    again.prune(NOW + (KEPT_DAYS + 1) * DAY)
    assert (again.count, list(tmp_path.iterdir())) == (0, [])
    add(again, 9, NOW)
    assert ids(path) == ["c9"]


def test_of_what_is_too_much_the_newest_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refused, "MOST_BYTES", 10_000)
    kept = Refused(tmp_path / REFUSED)
    for number in range(10):
        add(kept, number, NOW, 900)
    kept.prune(NOW)
    assert kept.count == 10, "9,000 characters and a few"
    add(kept, 10, NOW, 900)

    kept.prune(NOW)

    assert ids(tmp_path / REFUSED) == ["c6", "c7", "c8", "c9", "c10"]
    add(kept, 11, NOW, 20_000)
    kept.prune(NOW)
    assert (ids(tmp_path / REFUSED), kept.count) == (["c11"], 1), "the last is kept whatever its size"


def test_a_line_that_cannot_be_read_goes(tmp_path: Path) -> None:
    path = tmp_path / REFUSED
    path.write_text('{"at": 1.0, "fie\n[1]\n')
    kept = Refused(path)
    add(kept, 1, NOW)

    kept.prune(NOW)

    assert ids(path) == ["c1"]


def test_what_cannot_be_deleted_is_still_there(tmp_path: Path) -> None:
    path = tmp_path / REFUSED
    kept = Refused(path)
    add(kept, 1, NOW - 40 * DAY)
    add(kept, 2, NOW)
    (tmp_path / "refused.new").mkdir()

    with pytest.raises(OSError, match="directory"):
        kept.prune(NOW)

    assert (kept.count, ids(path)) == (2, ["c1", "c2"])
