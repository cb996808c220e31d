"""What a killed process or a full disk leaves between the sink and its child stops neither."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from backends import sink_settings, wandb_orders, wandb_sink
from backends.sinks import Copied
from backends.wandb_sink import WandbSink
from tests.backends.wandb_runs import PATIENCE, RUN, a_run, children_end, service, this_place_has_a_name
from tests.wandb_stand_in import StandIn

__all__ = ["children_end", "service", "this_place_has_a_name"]


def test_a_file_is_there_whole_or_not_at_all_wherever_its_writer_dies(tmp_path: Path) -> None:
    path = tmp_path / "job-7-a.json"
    for died_at in ("dump", "fsync", "replace"):
        pid = os.fork()
        if pid == 0:
            where, name = {"dump": (json, "dump"), "fsync": (os, "fsync"), "replace": (Path, "replace")}[died_at]
            setattr(where, name, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            wandb_orders.write(path, {"mark": {"job": 7}})
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        assert list(wandb_orders.those_in(tmp_path)) == []
    wandb_orders.write(path, {"mark": {"job": 7}})
    assert list(wandb_orders.those_in(tmp_path)) == [path]
    assert wandb_orders.read(path) == {"mark": {"job": 7}}


def test_word_that_cannot_be_read_is_dropped_and_keeps_no_other_from_being_heard(tmp_path: Path) -> None:
    folder = tmp_path / "wandb" / "arrived"
    folder.mkdir(parents=True)
    for name, content in (
        (".job-1-a.json", ""),
        ("job-2-b.json", '{"mark": {"jo'),
        ("job-3-c.json", "[]"),
        ("job-4-d.json", '{"mark": null, "error": null}'),
    ):
        (folder / name).write_text(content)
    wandb_orders.write(folder / "job-5-e.json", {"mark": {"job": 5}, "error": "no answer"})
    assert list(WandbSink(tmp_path / "wandb").arrived()) == [Copied({"job": 5}, "no answer")]
    assert list(wandb_orders.those_in(folder)) == []


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    sink_settings.sink_settings.cache_clear()


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("place", ["orders", "working"])
def test_an_order_that_cannot_be_read_is_told_and_keeps_no_other_waiting(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "wandb" / place
    folder.mkdir(parents=True)
    (folder / "job-3-broken.json").write_text('{"key": "job-3')
    (folder / "nobody's.json").write_text("")
    sink = WandbSink(tmp_path / "wandb")
    sink.put(a_run(2))
    found: dict[object, str | None] = {}
    deadline = time.monotonic() + PATIENCE
    while len(found) < 2:
        assert time.monotonic() < deadline
        found |= {one.mark["job"]: one.error for one in sink.arrived()}
        time.sleep(0.05)
    assert found == {3: f"it was not copied (JSONDecodeError); see {tmp_path / 'wandb' / 'child.log'}", 7: None}
    assert not any((tmp_path / "wandb" / name / "job-3-broken.json").exists() for name in ("orders", "working"))


@pytest.mark.parametrize(("place", "words"), [("orders", "waiting for its turn"), ("working", "on its way")])
def test_a_run_that_waits_for_long_is_said_to_be_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, words: str
) -> None:
    monkeypatch.setattr(WandbSink, "_see_to_it", lambda self: None)
    sink = WandbSink(tmp_path / "wandb")
    sink.put(a_run(2))
    assert list(sink.arrived()) == []
    path = tmp_path / "wandb" / "orders" / f"{RUN}.json"
    os.utime(path, (time.time() - 720, time.time() - 720))
    sink.put(a_run(3))
    assert wandb_orders.read(path)["mark"] == {"job": 7, "step": 3}
    moved = tmp_path / "wandb" / place / path.name
    moved.parent.mkdir(exist_ok=True)
    path.rename(moved)
    (late,) = sink.arrived()
    assert late.mark == {"job": 7}
    assert late.error == f"{words} for 12 minutes; see {tmp_path / 'wandb' / 'child.log'}"


def test_a_place_is_the_project_of_the_account(service: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = WandbSink(Path("wandb"))
    assert sink.place == f"{service.url}/acme/babylon-rl-training"
    monkeypatch.setenv("WANDB_PROJECT", "other")
    assert sink.place == f"{service.url}/acme/other"
    monkeypatch.delenv("WANDB_API_KEY")
    assert sink.place == "", "what is only recorded may be sent from anywhere"
    assert wandb_sink._url() is None
