from __future__ import annotations

from pathlib import Path

from bench.faults.expect import wait_until
from bench.faults.journal import Journal, Life, lives, shared


def journal(folder: Path, *lines: str) -> Path:
    path = folder / "journal"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_a_life_lasts_from_the_first_line_to_the_last(tmp_path: Path) -> None:
    path = journal(tmp_path, "10.0 a 1 start 0 0", "11.0 b 2 start 0 0", "12.5 a 1 step 7 1")
    assert lives(path) == [Life("a", 1, 10.0, 12.5), Life("b", 2, 11.0, 11.0)]
    assert shared(path) == []


def test_two_lives_on_one_device_at_a_time_are_seen(tmp_path: Path) -> None:
    path = journal(tmp_path, "1 a 1 start 0 0", "2 a 2 start 0 0", "3 a 1 step 7 1")
    assert shared(path) == [(Life("a", 1, 1.0, 3.0), Life("a", 2, 2.0, 2.0))]


def test_a_successor_that_begins_after_the_end_shares_nothing(tmp_path: Path) -> None:
    assert shared(journal(tmp_path, "1 a 1 start 0 0", "2 a 1 step 7 1", "2.1 a 2 start 0 0")) == []


def test_a_set_of_devices_is_each_of_them(tmp_path: Path) -> None:
    path = journal(tmp_path, "1 a+b 1 start 0 0", "2 b 2 start 0 0", "3 a+b 1 stop 0 0")
    assert [(one.device, one.pid, other.pid) for one, other in shared(path)] == [("b", 1, 2)]


def test_a_pen_writes_what_is_read(tmp_path: Path) -> None:
    pen = Journal(tmp_path / "journal", "a")
    pen.note("start")
    pen.note("step", 7, 3)
    first, second = (tmp_path / "journal").read_text().splitlines()
    assert first.split()[1::2] == ["a", "start", "0"]
    assert second.split()[3:] == ["step", "7", "3"]
    assert lives(tmp_path / "journal")[0].device == "a"


def test_a_device_that_is_held_by_a_child_that_does_nothing_is_seen(tmp_path: Path) -> None:
    pen, path = Journal(tmp_path / "journal", "a"), tmp_path / "journal"
    with pen.held(every=0.01):
        wait_until(lambda: path.read_text().count("holds") >= 2, 10, "two lines")
    said = [line.split()[3] for line in path.read_text().splitlines()]
    assert (said[0], set(said[1:-1]), said[-1]) == ("start", {"holds"}, "stop")
