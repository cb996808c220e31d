"""What a job's page is made of: its progress, its curves, and the end of a log that leads nowhere else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from admin.logs import tail_of_child
from admin.pages.curves import charts, moving


def test_progress_has_a_rate_and_the_time_left() -> None:
    began = datetime.now(UTC) - timedelta(seconds=100)
    training = {"stage": "train", "step": 20, "total": 60, "metrics": {"eta_seconds": 200.0}}
    found = moving(training, began, running=True)
    assert found is not None
    assert (found.done, found.total, found.unit, found.eta_seconds) == (20, 60, "steps", 200.0)
    assert found.per_second is not None
    assert 0.15 < found.per_second <= 0.2
    playing = moving({"done": 30, "total": 40, "per_second": 2.5}, began, running=True)
    assert playing is not None
    assert (playing.unit, playing.per_second, playing.eta_seconds) == ("done", 2.5, 4.0)
    ended = moving(training, began, running=False)
    assert ended is not None
    assert (ended.per_second, ended.eta_seconds) == (None, None)


def test_the_rate_after_a_resume_is_that_of_the_steps_since() -> None:
    began = datetime.now(UTC) - timedelta(seconds=10)
    found = moving({"step": 910, "total": 1000, "metrics": {"eta_seconds": 90.0}}, began, running=True)
    assert found is not None
    assert found.per_second == 1.0


def test_without_a_total_there_is_no_progress() -> None:
    assert moving(None, None, running=True) is None
    assert moving({"stage": "train", "step": 0, "total": 0}, None, running=True) is None


def test_a_curve_needs_two_points_and_skips_gaps() -> None:
    found = charts({"step": [1, 2, 3], "loss": [0.5, None, 0.25], "entropy": [None, 1.0, None], "other": [1, 2, 3]})
    assert [(one.title, one.last) for one in found] == [("Loss", "0.2500 at step 3")]
    assert 'aria-label="Loss by step: 0.5000 at step 1, 0.2500 at step 3"' in found[0].chart
    assert charts({}) == []


def test_the_end_of_a_log_begins_with_a_whole_line(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs" / "child-gpu0+gpu1.log"
    log.write_bytes(b"".join(b"line %d\r\n" % n for n in range(100)))
    said = tail_of_child(tmp_path, "gpu0+gpu1", 30)
    assert said is not None
    assert said.split("\n") == ["line 97", "line 98", "line 99", ""]


def test_a_progress_bar_that_rewrites_its_line_has_an_end(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "child-cpu.log").write_bytes(b"start\n" + b"".join(b"\r%d of 99" % n for n in range(10, 99)))
    assert tail_of_child(tmp_path, "cpu", 20) == "97 of 99\n98 of 99"


def test_what_a_terminal_would_obey_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "child-cpu.log").write_bytes(b"\x1b[31mred\x1b[0m\x07 50%\r60%\n\xff")
    assert tail_of_child(tmp_path, "cpu") == "red 50%\n60%\n\ufffd"


def test_no_log_outside_the_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "state" / "logs").mkdir(parents=True)
    (tmp_path / "secret.log").write_text("secret")
    (tmp_path / "state" / "logs" / "child-gpu1.log").symlink_to(tmp_path / "secret.log")
    for device in ("gpu1", "gpu9", "../../secret", "cpu/../../../secret", "", "a\0b"):
        assert tail_of_child(tmp_path / "state", device) is None
