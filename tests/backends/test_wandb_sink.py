"""Runs in W&B's own format and over its own client, to a stand-in of the service that hangs, refuses and breaks."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wandb.proto import wandb_internal_pb2

from backends import sink_settings, wandb_sink
from backends.sinks import Copied
from backends.wandb_sink import WandbSink
from tests.backends.wandb_runs import (
    NAMES,
    PATIENCE,
    RUN,
    SCENARIOS,
    a_run,
    arrived,
    checkpoint,
    children_end,
    copied,
    expected,
    service,
    steps_of,
    this_place_has_a_name,
)
from tests.wandb_stand_in import KEY, StandIn

__all__ = ["checkpoint", "children_end", "service", "this_place_has_a_name"]


def records(path: Path) -> Iterator[Any]:
    """The records of a .wandb file: LevelDB's log format with messages of protobuf in it."""
    data, place, held = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while place + 7 <= len(data):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        piece = data[place + 7 : place + 7 + length]
        place += 7 + length
        held = piece if kind in (1, 2) else held + piece
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(held)
            yield record


def test_a_run_is_recorded_without_a_key_and_read_back(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    sink_settings.sink_settings.cache_clear()
    sink = WandbSink(tmp_path / "wandb")
    for last in (2, 5):
        assert copied(sink, a_run(last, checkpoint)) == Copied({"job": 7, "step": last})
    (path,) = (tmp_path / "wandb" / "runs" / RUN).rglob("*.wandb")
    found = list(records(path))
    (run,) = (one.run for one in found if one.WhichOneof("record_type") == "run")
    assert (run.run_id, run.run_group, run.display_name, list(run.tags)) == (RUN, "main/demo", "v1.0.1", ["v1.0.1"])
    assert (run.project, run.host) == ("babylon-rl-training", "")
    lines = [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in one.history.item}
        for one in found
        if one.WhichOneof("record_type") == "history"
    ]
    assert [(line["_step"], line["loss"], line["_timestamp"]) for line in lines] == [
        (step, pytest.approx(1 / step), 1000 + step) for step in range(1, 6)
    ]
    (artifact,) = (one.artifact for one in found if one.WhichOneof("record_type") == "artifact")
    assert (artifact.name, artifact.type, set(artifact.aliases)) == ("v1.0.1", "model", {"ready", "stable", "latest"})
    assert json.loads(artifact.metadata) == {"version": "v1.0.1", "sha256": "ab" * 32, "kind": "adapter", "step": 4}
    staged = {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}
    assert staged.keys() == {"adapter_model.safetensors", "adapter_config.json"}
    weights = staged["adapter_model.safetensors"]
    assert (weights.is_relative_to(tmp_path / "wandb"), weights.read_bytes()) == (True, b"weights" * 1000)
    kinds = {one.WhichOneof("record_type") for one in found}
    assert kinds <= {"header", "run", "telemetry", "summary", "history", "artifact", "config", "exit", "request"}
    assert not [name for name in NAMES if name in path.read_bytes()]


@pytest.mark.slow
def test_a_run_and_its_model_are_sent_and_sent_again_without_doubling_a_step(
    tmp_path: Path, checkpoint: Path, service: StandIn
) -> None:
    sink = WandbSink(tmp_path / "wandb")
    for last in (3, 3, 6):
        assert copied(sink, a_run(last, checkpoint)) == Copied({"job": 7, "step": last})
        assert steps_of(service.runs[RUN]) == expected(last)
    assert service.runs.keys() == {RUN}
    run = service.runs[RUN]
    assert run.writes == 12
    assert (run.about["groupName"], run.about["displayName"], run.about["tags"]) == ("main/demo", "v1.0.1", ["v1.0.1"])
    assert json.loads(run.about["config"])["config"]["value"] == {"objective": "grpo"}
    said = {name: run.summary[name] for name in ("state", "released", f"evaluation/{SCENARIOS}/rate")}
    assert said == {"state": "succeeded", "released": True, f"evaluation/{SCENARIOS}/rate": 0.6}
    (artifact,) = service.artifacts.values()
    assert (artifact["state"], artifact["asked"]["artifactTypeName"]) == ("COMMITTED", "model")
    assert artifact["files"].keys() == {"adapter_model.safetensors", "adapter_config.json"}
    assert service.stored[artifact["files"]["adapter_model.safetensors"]] == b"weights" * 1000
    assert not any((tmp_path / "wandb" / "runs").iterdir()), "what was sent is not kept"
    sent = [*service.bodies, *service.stored.values()]
    assert not [name for name in NAMES if any(name in one for one in (*sent, *service.heads))]
    assert any(SCENARIOS.encode() in body for body in service.bodies)
    assert not [line for line in service.heads if b"gridworld" in line]
    assert any(line.startswith(b"User-Agent: ") for line in service.heads)
    assert sorted(path.name for path in (tmp_path / "cwd").iterdir()) == []


def test_the_end_of_a_name_that_is_too_long_is_the_tag(
    tmp_path: Path, service: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "p" * 64 + "-v1.0.1"
    assert copied(WandbSink(tmp_path / "wandb"), a_run(2, name=name, tags=(name,))) == Copied({"job": 7, "step": 2})
    about = service.runs[RUN].about
    assert (about["displayName"], about["tags"]) == (name, ["p" * 57 + "-v1.0.1"])


@pytest.mark.slow
def test_one_that_is_away_refuses_or_hangs_is_named_and_caught_up_with_later(
    tmp_path: Path, service: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = WandbSink(tmp_path / "wandb")
    for answer, words in (
        (401, f"{service.url} answered 401: is WANDB_API_KEY right, and may it write?"),
        (500, f"{service.url} answered 500"),
        ("hang", f"no answer from {service.url} (ReadTimeout)"),
    ):
        service.answer = answer
        assert copied(sink, a_run(4)) == Copied({"job": 7, "step": 4}, words)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{held.getsockname()[1]}"
        monkeypatch.setenv("WANDB_BASE_URL", nowhere)
        sink_settings.sink_settings.cache_clear()
        assert copied(sink, a_run(4)).error == f"no answer from {nowhere} (ConnectError)"
    monkeypatch.setenv("WANDB_BASE_URL", service.url)
    sink_settings.sink_settings.cache_clear()
    service.answer = "ok"
    assert copied(sink, a_run(5)) == Copied({"job": 7, "step": 5})
    assert steps_of(service.runs[RUN]) == expected(5)
    log = (tmp_path / "wandb" / "child.log").read_text()
    assert KEY not in log


@pytest.mark.slow
def test_one_that_breaks_in_the_middle_is_given_up_in_time_and_caught_up_with_later(
    tmp_path: Path, service: StandIn
) -> None:
    service.broken_stream = 500
    sink = WandbSink(tmp_path / "wandb", seconds=15)
    assert copied(sink, a_run(4)).error == "it was not sent (it took longer than 15 s)"
    service.broken_stream = None
    sink = WandbSink(tmp_path / "wandb")
    assert copied(sink, a_run(4)) == Copied({"job": 7, "step": 4})
    assert steps_of(service.runs[RUN]) == expected(4)


@pytest.mark.slow
def test_the_child_may_be_killed_anywhere(tmp_path: Path, checkpoint: Path, service: StandIn) -> None:
    sink = WandbSink(tmp_path / "wandb")
    run = a_run(30, checkpoint)
    sink.put(run)
    for asked in (0, 1, 2, 3, 5, 8):
        deadline = time.monotonic() + PATIENCE
        while service.asked < asked and not any((tmp_path / "wandb" / "arrived").glob("*.json")):
            assert time.monotonic() < deadline
        child = wandb_sink._started[tmp_path / "wandb"]
        if child.poll() is None:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
        if any((tmp_path / "wandb" / "arrived").glob("*.json")):
            break
        service.asked = 0
        while not any((tmp_path / "wandb" / "left").glob("*.json")):  # what the child had started ends after it
            assert list(sink.arrived()) == []
            assert time.monotonic() < deadline
        sink.put(run)
    assert arrived(sink, run) == Copied({"job": 7, "step": 30})
    assert steps_of(service.runs[RUN]) == expected(30)
    assert [one["state"] for one in service.artifacts.values()] == ["COMMITTED"]
