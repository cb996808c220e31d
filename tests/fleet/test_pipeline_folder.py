"""The folder of a pipeline: one process at a time, one pipeline, and how long was worked."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fleet.pipeline.folder import Folder, attempt
from fleet.processes import ROOT
from rl.errors import InvalidInput, StartError
from rl.pipeline import Pipeline

HOLD = """
import sys
from pathlib import Path
from fleet.pipeline.folder import Folder
with Folder(Path(sys.argv[1])).held():
    print("held", flush=True)
    sys.stdin.read()
"""


def _config(**changed: Any) -> Pipeline:
    values: dict[str, Any] = {
        "name": "little",
        "environment": "sat-small",
        "model": {"starter": {}},
        "demonstrations": {"scenarios": 20},
        "sft": {"steps": 5, "optimizer": {"learning_rate": 3e-3}},
        "rl": {
            "rounds": 1,
            "rollout": {"scenarios": 2, "episodes": 2},
            "train": {"optimizer": {"learning_rate": 2e-3}},
        },
        "validation": {"count": 10},
        "held_out": {"count": 6},
    }
    return Pipeline.model_validate(values | changed)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "pipelines" / "little")


def test_it_is_private_and_of_one_pipeline(folder: Folder) -> None:
    folder.make(_config())
    folder.demonstrations.write_text("{}\n")
    folder.make(_config())
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    with pytest.raises(InvalidInput, match=r"name = 'little': it was begun with demonstrations\.scenarios = 20, and "):
        folder.make(_config(demonstrations={"scenarios": 30}))


@pytest.mark.parametrize("strategy", ["gradual", "immediate"])
def test_one_goes_on_however_it_releases(folder: Folder, strategy: str) -> None:
    folder.make(_config(release={"strategy": strategy}))
    folder.demonstrations.touch()
    folder.make(_config(release={"strategy": strategy}))
    other = {"gradual": "immediate", "immediate": "gradual"}[strategy]
    with pytest.raises(InvalidInput, match=f"begun with release.strategy = '{strategy}', and not '{other}'"):
        folder.make(_config(release={"strategy": other}))


def test_a_report_of_nothing_begins_nothing(folder: Folder) -> None:
    folder.make(_config())
    folder.write("report", {"done": False})
    assert not folder.begun


def test_settings_may_change_while_nothing_is_made(folder: Folder) -> None:
    folder.make(_config())
    (folder.path / "demonstrations.jsonl.parts").mkdir()
    with folder.timed("demonstrate"):
        pass
    assert not folder.begun
    folder.make(_config(demonstrations={"scenarios": 30}))
    assert folder.read("pipeline")["demonstrations"]["scenarios"] == 30
    (folder.path / "demonstrations.jsonl.parts" / "00000000.jsonl").touch()
    assert folder.begun


def test_settings_that_came_later_have_their_defaults(folder: Folder) -> None:
    folder.make(_config())
    folder.demonstrations.touch()
    stored = folder.read("pipeline")
    del stored["seed"]
    folder.write("pipeline", stored)
    folder.make(_config())
    folder.write("pipeline", stored | {"teacher": "gone"})
    with pytest.raises(InvalidInput, match=r"settings that are not understood \(teacher\)"):
        folder.make(_config())


def test_one_process_works_on_it(folder: Folder) -> None:
    words = [sys.executable, "-c", HOLD, str(folder.path)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, cwd=ROOT, **pipes) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(StartError, match=f"pipeline little is being run by process {other.pid}: "), folder.held():
            pass
        other.communicate("")
    with folder.held():
        assert (folder.path / ".lock").read_text().isdigit()
    assert not folder.begun


def test_time_adds_up_over_interruptions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(tmp_path)
    clock = iter([0.0, 2.0, 10.0, 13.5])
    monkeypatch.setattr("fleet.pipeline.folder.time.monotonic", lambda: next(clock))
    with pytest.raises(KeyboardInterrupt), folder.timed("rl"):
        raise KeyboardInterrupt
    with folder.timed("rl"):
        pass
    assert folder.seconds == {"rl": 5.5}


def test_a_killed_process_has_worked_for_what_it_has_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, now = Folder(tmp_path), [0.0]
    monkeypatch.setattr("fleet.pipeline.folder.time.monotonic", lambda: now[0])
    found = []
    with folder.timed("rl"):
        for now[0] in (9.0, 10.0, 19.0, 25.0):
            folder.tick()
            found.append(folder.seconds.get("rl"))
    assert found == [None, 10.0, 10.0, 25.0]
    folder.tick()
    assert folder.seconds == {"rl": 25.0}


def test_an_error_is_not_hidden_by_the_clock_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fleet.pipeline.folder.write_private", full)
    with pytest.raises(StartError, match="the first one"), folder.timed("rl"):
        raise StartError("the first one")
    with pytest.raises(OSError, match="No space left"), folder.timed("rl"):
        pass


def test_a_fresh_one_has_the_next_name(tmp_path: Path) -> None:
    assert attempt(tmp_path, "sat", fresh=True) == "sat"
    for name in ("sat", "sat-2", "sat-small", "sat--x"):
        (tmp_path / name).mkdir()
    assert attempt(tmp_path, "sat", fresh=False) == "sat"
    assert attempt(tmp_path, "sat", fresh=True) == "sat--2"
    (tmp_path / "sat--2").mkdir()
    assert attempt(tmp_path, "sat", fresh=False) == "sat--2"
    assert attempt(tmp_path, "sat", fresh=True) == "sat--3"


def test_a_fresh_one_is_behind_those_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "sat--2").mkdir()
    assert attempt(tmp_path, "sat", fresh=False) == "sat--2"
    assert attempt(tmp_path, "sat", fresh=True) == "sat--3"


def test_a_fresh_name_is_no_longer_than_a_name(tmp_path: Path) -> None:
    (tmp_path / ("x" * 62)).mkdir()
    with pytest.raises(InvalidInput, match="has more than 64 letters; choose a shorter name"):
        attempt(tmp_path, "x" * 62, fresh=True)
    assert attempt(tmp_path, "x" * 61, fresh=True) == "x" * 61
