"""What a killed process or a full disk leaves between the sink and its child stops neither."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from backends import sink_settings, wandb_child, wandb_orders, wandb_sink
from backends.sinks import Copied, Run
from backends.wandb_sink import WandbSink
from tests.backends.wandb_runs import (
    PATIENCE,
    RUN,
    a_run,
    checkpoint,
    children_end,
    copied,
    service,
    this_place_has_a_name,
)
from tests.wandb_stand_in import StandIn, wandb_service

__all__ = ["checkpoint", "children_end", "service", "this_place_has_a_name"]


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
def test_an_order_that_cannot_be_read_is_told_and_keeps_no_other_waiting(tmp_path: Path) -> None:
    folder = tmp_path / "wandb" / "orders"
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
    sink.put(a_run(2))
    path = tmp_path / "wandb" / "orders" / f"{RUN}.json"
    os.utime(path, (time.time() - 720, time.time() - 720))
    sink.put(a_run(3))
    assert wandb_orders.read(path)["mark"] == {"job": 7, "step": 3}
    moved = tmp_path / "wandb" / place / path.name
    moved.parent.mkdir(exist_ok=True)
    path.rename(moved)
    (late,) = sink.arrived()
    assert late.mark == {"job": 7, "key": RUN}
    assert late.error == f"{words} for 12 minutes; see {tmp_path / 'wandb' / 'child.log'}"


def test_a_run_that_waits_is_told_again_when_it_has_waited_twice_as_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WandbSink, "_see_to_it", lambda self: None)
    sink = WandbSink(tmp_path / "wandb")
    sink.put(a_run(2))
    path = tmp_path / "wandb" / "orders" / f"{RUN}.json"
    begun, now = path.stat().st_mtime, [0.0]
    monkeypatch.setattr(time, "time", lambda: begun + now[0])
    told = []
    for minute in range(1, 61):
        now[0] = 60.0 * minute + 1
        told += [minute for _ in sink.arrived()]
        sink.put(a_run(2))
    assert told == [10, 21, 43]
    sink.put(a_run(2, key="job-8-0123456789", mark={"job": 8}))
    now[0] += 660.0
    assert [one.mark["job"] for one in sink.arrived()] == [8]


def test_a_place_is_the_project_of_the_account(service: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = WandbSink(Path("wandb"))
    assert sink.place == f"{service.url}/acme/babylon-rl-training"
    monkeypatch.setenv("WANDB_PROJECT", "other")
    assert sink.place == f"{service.url}/acme/other"
    monkeypatch.delenv("WANDB_API_KEY")
    assert sink.place == "", "what is only recorded may be sent from anywhere"
    assert wandb_sink._url() is None


def killed_before(monkeypatch: pytest.MonkeyPatch, folder: Path, place: str, run: Run) -> None:
    """Leave an order for the run as one that was killed with its child does."""
    with monkeypatch.context() as while_it_lives:
        while_it_lives.setattr(WandbSink, "_see_to_it", lambda self: None)
        WandbSink(folder).put(run)
    (folder / place).mkdir(exist_ok=True)
    (folder / "orders" / f"{run.key}.json").rename(folder / place / f"{run.key}.json")


@pytest.mark.parametrize("place", ["orders", "working"])
def test_an_order_of_another_server_brings_no_key_there(
    tmp_path: Path, service: StandIn, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    killed_before(monkeypatch, tmp_path / "wandb", place, a_run(3))
    with wandb_service() as other:
        monkeypatch.setenv("WANDB_BASE_URL", other.url)
        sink_settings.sink_settings.cache_clear()
        sink = WandbSink(tmp_path / "wandb")
        assert list(sink.arrived()) == []
        assert wandb_sink._started == {}, "nothing is sent that nobody asked for since"
        assert copied(sink, a_run(3)) == Copied({"job": 7, "step": 3})
        assert other.runs.keys() == {RUN}
    assert (service.asked, service.runs) == (0, {})


def test_an_order_that_another_worker_replaces_when_it_is_taken_is_not_sent(
    tmp_path: Path, service: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, to, run = tmp_path / "wandb", wandb_sink._to(), a_run(3)
    killed_before(monkeypatch, folder, "orders", run)
    (folder / "working").mkdir()
    rename = Path.rename

    def after_the_other(self: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        with monkeypatch.context() as of_another_worker:
            of_another_worker.setattr(WandbSink, "_see_to_it", lambda self: None)
            of_another_worker.setenv("WANDB_PROJECT", "other")
            WandbSink(folder).put(run)
        return self.rename(target)

    monkeypatch.setattr(Path, "rename", after_the_other)
    path = wandb_child._next(folder, to)
    assert path is not None
    mark, error = wandb_child._carried_out(folder, path, to, {})
    assert mark == {"job": 7, "step": 3}
    assert (error or "").startswith("it was not sent: its order is of another server, entity or project")
    assert (service.asked, service.runs) == (0, {})


def test_a_child_takes_no_order_that_goes_elsewhere(
    tmp_path: Path, service: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker of other settings left it while the child of this one was at work."""
    sink = WandbSink(tmp_path / "wandb")
    other = a_run(3, key="job-8-0123456789", mark={"job": 8})
    with monkeypatch.context() as of_another_worker:
        of_another_worker.setenv("WANDB_PROJECT", "other")
        killed_before(monkeypatch, tmp_path / "wandb", "orders", other)
    assert copied(sink, a_run(3)) == Copied({"job": 7, "step": 3})
    assert service.runs.keys() == {RUN}
    assert not (tmp_path / "wandb" / "arrived" / f"{other.key}.json").exists()


@pytest.mark.parametrize("place", ["orders", "working"])
def test_a_model_that_was_taken_back_since_is_not_sent(
    tmp_path: Path, checkpoint: Path, service: StandIn, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    killed_before(monkeypatch, tmp_path / "wandb", place, a_run(3, checkpoint))
    sink = WandbSink(tmp_path / "wandb")
    assert list(sink.arrived()) == []
    assert wandb_sink._started == {}, "nothing is sent that nobody asked for since"
    assert copied(sink, a_run(3)) == Copied({"job": 7, "step": 3})
    assert service.artifacts == {}


def test_an_order_that_nobody_asks_for_again_is_dropped(
    tmp_path: Path, service: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "wandb"
    killed_before(monkeypatch, folder, "working", a_run(3))
    waited = time.time() - 300
    os.utime(folder / "working" / f"{RUN}.json", (waited, waited))
    sink = WandbSink(folder)
    assert list(sink.arrived()) == []
    with monkeypatch.context() as without_a_child:
        without_a_child.setattr(WandbSink, "_see_to_it", lambda self: None)
        sink.put(a_run(3))
    (path,) = wandb_orders.those_in(folder / "orders")
    assert path.stat().st_mtime == pytest.approx(waited, abs=1), "it has waited since it was asked for first"
    for _ in range(2):
        assert list(sink.arrived()) == []
    assert not any(any(wandb_orders.those_in(folder / name)) for name in ("orders", "working", "left"))
    assert service.asked == 0
