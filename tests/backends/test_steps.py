from __future__ import annotations

import json
import logging
import os
import signal
from pathlib import Path

import pytest

from backends.steps import FILE, StepFile, read


def steps(folder: Path) -> dict[int, float]:
    return {one.step: one.metrics["loss"] for one in read(folder / FILE)}


def test_each_step_is_a_line_that_says_whose_it_is(tmp_path: Path) -> None:
    file = StepFile(tmp_path, 7, 3)
    file.add(0, 2, {"prepared": 0.5})
    file.add(1, 2, {"loss": 0.5, "mean_score": 1.0})
    file.add(2, 2, {"loss": 0.25})
    rows = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert [{name: row[name] for name in row if name != "at"} for row in rows] == [
        {"schema": 1, "job": 7, "fence": 3, "step": 1, "total": 2, "metrics": {"loss": 0.5, "mean_score": 1.0}},
        {"schema": 1, "job": 7, "fence": 3, "step": 2, "total": 2, "metrics": {"loss": 0.25}},
    ]
    first, second = read(tmp_path / FILE)
    assert (first.step, first.metrics, second.metrics) == (1, {"loss": 0.5, "mean_score": 1.0}, {"loss": 0.25})
    assert first.at <= second.at


def test_of_a_step_that_was_made_again_the_newest_attempt_counts(tmp_path: Path) -> None:
    first, second = StepFile(tmp_path, 7, 1), StepFile(tmp_path, 7, 2)
    for step in (1, 2, 3):
        first.add(step, 4, {"loss": 1.0})
    for step in (3, 4):
        second.add(step, 4, {"loss": 2.0})
    first.add(4, 4, {"loss": 9.0})  # one that lost its lease, and has not heard of it
    assert steps(tmp_path) == {1: 1.0, 2: 1.0, 3: 2.0, 4: 2.0}


def test_what_a_killed_process_left_of_a_line_spoils_no_other(tmp_path: Path) -> None:
    StepFile(tmp_path, 7, 1).add(1, 3, {"loss": 1.0})
    with (tmp_path / FILE).open("a") as file:
        file.write('{"schema": 1, "job": 7, "fence": 1, "st')
    StepFile(tmp_path, 7, 2).add(2, 3, {"loss": 2.0})
    assert steps(tmp_path) == {1: 1.0, 2: 2.0}


def test_a_process_that_is_killed_leaves_every_step_that_it_said(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        file = StepFile(tmp_path, 7, 1)
        for step in range(1, 10**6):
            file.add(step, 10**6, {"loss": 1 / step})
            os.write(writing, b".")
    os.close(writing)
    said = 0
    while said < 50:
        said += len(os.read(reading, 50))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    while more := os.read(reading, 1 << 16):
        said += len(more)
    os.close(reading)
    found = steps(tmp_path)
    assert sorted(found) == list(range(1, len(found) + 1))
    assert len(found) >= said


def test_a_disk_that_fails_is_told_once_and_fails_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = StepFile(tmp_path / "gone", 7, 1)
    with caplog.at_level(logging.WARNING):
        file.add(1, 2, {"loss": 1.0})
        file.add(2, 2, {"loss": 0.5})
    (told,) = caplog.messages
    assert told == f"the metrics of job 7 are not in {tmp_path / 'gone' / FILE}: No such file or directory"
    assert read(tmp_path / "gone" / FILE) == []
