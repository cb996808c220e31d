from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from backends import sink_settings
from backends.jsonl_sink import JsonlSink
from backends.sink_settings import chosen
from backends.sinks import Copied, Decided, Evaluated, Run, Sink, made
from backends.steps import Step
from backends.tensorboard_sink import TensorboardSink
from rl.errors import InvalidSettings

KEY = "job-7-0123456789"
SCENARIOS = "gridworld validation: 100 scenarios from seed 0"
VARIABLES = ("RLFLEET_SINKS", "RLFLEET_METRICS", "WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL")


@pytest.fixture(autouse=True)
def _settings_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    sink_settings.sink_settings.cache_clear()


def a_run(last: int, **values: Any) -> Run:
    steps = tuple(Step(step, {"loss": 1 / step, "kl": 0.5 * step}, 1000.0 + step) for step in range(1, last + 1))
    known: dict[str, Any] = {
        "key": KEY,
        "name": "v1.0.1",
        "group": "main/demo",
        "tags": ("v1.0.1",),
        "state": "running",
        "params": {"objective": "grpo"},
        "steps": steps,
        "mark": {"job": 7, "step": last},
    }
    return Run(**known | values)


RESULTS: dict[str, Any] = {
    "state": "succeeded",
    "evaluations": (Evaluated(2, SCENARIOS, 30.0, 100), Evaluated(4, SCENARIOS, 60.0, 100)),
    "decisions": (Decided(True, "paired-margin", "credibly better", 2000.0),),
}


def test_a_file_of_json_lines_has_params_steps_and_results(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path)
    for last in (2, 4):
        assert sink.put(a_run(last)) == Copied({"job": 7, "step": last})
    sink.put(a_run(4, **RESULTS))
    (path,) = (one for one in tmp_path.rglob("*") if one.is_file())
    assert path == tmp_path / "main" / "demo" / f"{KEY}.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["kind"] for row in rows] == ["params", *["metrics"] * 4, "evaluation", "evaluation", "decision"]
    assert (rows[0]["name"], rows[0]["state"], rows[0]["params"]) == ("v1.0.1", "succeeded", {"objective": "grpo"})
    assert rows[4] == {"schema": 1, "kind": "metrics", "step": 4, "metrics": {"loss": 0.25, "kl": 2.0}, "at": 1004.0}
    assert rows[6] == {"schema": 1, "kind": "evaluation", "step": 4, "scenarios": SCENARIOS, "k": 60.0, "n": 100}
    assert (rows[7]["released"], rows[7]["policy"]) == (True, "paired-margin")


def scalars(folder: Path, tag: str) -> list[tuple[int, float, float]]:
    """What TensorBoard itself reads."""
    reader = EventAccumulator(str(folder))
    reader.Reload()
    return [(one.step, one.value, one.wall_time) for one in reader.Scalars(tag)]


def test_tensorboard_reads_every_step_once_however_often_it_was_copied(tmp_path: Path) -> None:
    sink = TensorboardSink(tmp_path)
    folder = tmp_path / "main" / "demo" / KEY
    for last in (3, 3, 4, 10):
        assert sink.put(a_run(last)) == Copied({"job": 7, "step": last})
    sink.put(a_run(10, **RESULTS))
    assert scalars(folder, "loss") == [(n, pytest.approx(1 / n), 1000.0 + n) for n in range(1, 11)]
    assert scalars(folder, "kl") == [(n, 0.5 * n, 1000.0 + n) for n in range(1, 11)]
    assert len([one for one in folder.iterdir() if one.is_file()]) == 3
    results = folder / "results"
    assert scalars(results, f"evaluation/{SCENARIOS}") == [(2, pytest.approx(0.3), 0), (4, pytest.approx(0.6), 0)]
    assert scalars(results, "released") == [(10, 1.0, 2000.0)]


def test_a_reader_that_is_open_sees_what_comes_later(tmp_path: Path) -> None:
    sink = TensorboardSink(tmp_path)
    sink.put(a_run(3))
    reader = EventAccumulator(str(tmp_path / "main" / "demo" / KEY))
    for last in (3, 4, 8):
        sink.put(a_run(last))
        reader.Reload()
        assert [one.step for one in reader.Scalars("loss")] == list(range(1, last + 1))


@pytest.mark.parametrize("kind", [JsonlSink, TensorboardSink])
def test_one_that_is_killed_anywhere_loses_and_doubles_no_step(tmp_path: Path, kind: type[Any]) -> None:
    """Killed at each call of the system that changes a file, and copied again with more steps than before."""
    last, at = 1, 0
    while True:
        pid = os.fork()
        if pid == 0:
            try:
                _die_at(at)
                kind(tmp_path).put(a_run(last))
            finally:
                os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        last, at = last + 1, at + 1
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert at > 2
    kind(tmp_path).put(a_run(last))
    if kind is TensorboardSink:
        found = [step for step, _, _ in scalars(tmp_path / "main" / "demo" / KEY, "loss")]
    else:
        rows = map(json.loads, (tmp_path / "main" / "demo" / f"{KEY}.jsonl").read_text().splitlines())
        found = [row["step"] for row in rows if row["kind"] == "metrics"]
    assert found == list(range(1, last + 1))


@pytest.mark.parametrize("kind", [JsonlSink, TensorboardSink])
def test_processes_of_the_same_number_on_two_hosts_write_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Any]
) -> None:
    """The other one comes in between, when the file of this one is to take its place."""
    replace = Path.replace

    def after_the_other(self: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "replace", replace)
        kind(tmp_path).put(a_run(3))
        return self.replace(target)

    monkeypatch.setattr(Path, "replace", after_the_other)
    assert kind(tmp_path).put(a_run(3)) == Copied({"job": 7, "step": 3})
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 1
    assert not files[0].name.startswith(".")


@pytest.mark.parametrize("kind", [JsonlSink, TensorboardSink])
def test_what_one_that_was_killed_left_is_removed_after_a_day(tmp_path: Path, kind: type[Any]) -> None:
    if (pid := os.fork()) == 0:
        Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign,assignment]
        kind(tmp_path).put(a_run(2))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    (left,) = (path for path in tmp_path.rglob("*") if path.is_file())
    theirs = left.with_name(".theirs")
    theirs.touch()
    os.utime(theirs, (0, 0))
    kind(tmp_path).put(a_run(2))
    assert left.exists(), "somebody may be writing it"
    os.utime(left, (0, 0))
    kind(tmp_path).put(a_run(2, key="job-8-0123456789"))
    assert (left.exists(), theirs.exists()) == (False, True)
    assert [path.name for path in tmp_path.rglob(".*")] == [".theirs"]


def _die_at(number: int) -> None:
    left = [number]

    def watched(event: str, arguments: Any) -> None:
        if event in ("open", "os.rename", "os.remove", "os.mkdir") and (event != "open" or "w" in str(arguments[1])):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watched)


@pytest.mark.parametrize(
    ("variables", "names"),
    [
        ({}, ["jsonl"]),
        ({"WANDB_MODE": "offline"}, ["jsonl", "wandb"]),
        ({"WANDB_API_KEY": "a" * 40}, ["jsonl", "wandb"]),
        ({"WANDB_API_KEY": "a" * 40, "WANDB_MODE": "disabled"}, ["jsonl"]),
        ({"WANDB_MODE": "disabled", "RLFLEET_SINKS": "wandb"}, []),
        ({"RLFLEET_SINKS": "wandb, tensorboard"}, ["tensorboard", "wandb"]),
        ({"RLFLEET_SINKS": "none", "WANDB_API_KEY": "a" * 40}, []),
    ],
)
def test_which_sinks_there_are(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], names: list[str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert chosen() == names


@pytest.mark.parametrize(
    ("url", "is_one"),
    [
        ("https://api.wandb.ai", True),
        ("https://wandb.example:8443/api/", True),
        ("http://127.0.0.1:8080", True),
        ("http://localhost", True),
        ("http://wandb.example", False),
        ("http://127.0.0.1.example", False),
        ("http://localhost@wandb.example", False),
        ("https://somebody:hunter2@wandb.example", False),
        ("https://wandb.example/?key=hunter2", False),
        ("ftp://wandb.example", False),
    ],
)
def test_the_key_goes_only_where_it_is_safe(monkeypatch: pytest.MonkeyPatch, url: str, is_one: bool) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", url)
    if is_one:
        assert sink_settings.sink_settings().wandb_url == url
        return
    with pytest.raises(InvalidSettings, match=r"WANDB_BASE_URL = '<hidden>': set an https:// address") as raised:
        sink_settings.sink_settings()
    assert "hunter2" not in str(raised.value)


def test_a_sink_that_nobody_knows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_SINKS", "jsonl,mlflow")
    with pytest.raises(InvalidSettings, match=r"RLFLEET_SINKS = 'jsonl,mlflow': .*set it to some of jsonl"):
        chosen()


def test_files_go_below_the_artifacts_or_where_they_are_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sinks: list[Sink] = [made(name, tmp_path / "a", tmp_path / "s") for name in sink_settings.NAMES]
    assert [one.name for one in sinks] == list(sink_settings.NAMES)
    sinks[0].put(a_run(1))
    assert (tmp_path / "a" / "metrics" / "main" / "demo" / f"{KEY}.jsonl").is_file()
    monkeypatch.setenv("RLFLEET_METRICS", str(tmp_path / "m"))
    sink_settings.sink_settings.cache_clear()
    made("tensorboard", tmp_path / "a", tmp_path / "s").put(dataclasses.replace(a_run(1), group="main"))
    assert (tmp_path / "m" / "tensorboard" / "main" / KEY).is_dir()
    assert sinks[0].place == sinks[1].place == "RLFLEET_ARTIFACTS", "each host has a path of its own there"
    assert made("jsonl", tmp_path / "a", tmp_path / "s").place == str(tmp_path / "m")
