from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleet import processes, running
from fleet.cli import app
from fleet.home import Endpoints, Home, holder, read_endpoints
from fleet.process_states import read_states
from fleet.processes import ROOT, Plan
from fleet.running import ChildLogs, Fleet
from fleet.servers import Servers
from rl.errors import StartError

CRASH = "Traceback (most recent call last):\nRuntimeError: no such device\n"
PLAN = Plan({}, ("cpu",), "http://127.0.0.1:9", "http://127.0.0.1:9", Path())


class Idle:
    """Servers that need nothing."""

    def poll(self) -> None:
        pass


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    """A fleet without processes, whose gateway never answers; an earlier one's child crashed."""
    monkeypatch.setattr(processes, "is_well", lambda url: lambda: False)
    with Home.open({"RLFLEET_HOME": str(tmp_path)}) as home:
        (home.logs / "child-cpu.log").write_text("an earlier story\n" + CRASH)
        fleet = Fleet({})
        fleet.home, fleet.plan = home, replace(PLAN, state=tmp_path)
        fleet._servers = Idle()  # type: ignore[assignment]
        fleet._children = ChildLogs(home.logs)
        yield fleet


def _append(fleet: Fleet, text: str) -> Path:
    log = fleet.home.logs / "child-cpu.log"
    with log.open("a") as stream:
        stream.write(text)
    return log


def test_others_find_a_fleet_when_its_tables_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"RLFLEET_HOME": str(tmp_path)}
    endpoints, found = Endpoints("postgresql://h/d", "redis://h/0"), []
    for name in ("start", "stop"):
        monkeypatch.setattr(Servers, name, lambda self, **_: endpoints)
    monkeypatch.setattr(processes, "plan", lambda *_: PLAN)
    monkeypatch.setattr(Fleet, "_migrate", lambda self: found.append(read_endpoints(tmp_path)))
    with Fleet(environ):
        found.append(read_endpoints(tmp_path))
    urls = {"gateway_url": PLAN.gateway_url, "admin_url": PLAN.admin_url, "flower_url": PLAN.flower_url}
    assert found == [None, replace(endpoints, **urls)]


def test_a_crashed_child_ends_the_wait_for_an_engine_early(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "CRASHED_SECONDS", 0.0)
    log = _append(fleet, "".join(f"line {number}\n" for number in range(20)) + CRASH)
    with pytest.raises(StartError) as caught:
        fleet.wait_for_engine()
    head, *said = str(caught.value).splitlines()
    assert head == f"no engine came up; see {fleet.home.logs}"
    assert said[0] == f"{log} says:"
    assert said[1:] == [f"  line {number}" for number in range(7, 20)] + [f"  {line}" for line in CRASH.splitlines()]


def test_a_late_engine_is_reported_with_what_this_fleets_child_said(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "CRASHED_SECONDS", 0.0)
    monkeypatch.setattr(running, "ENGINE_SECONDS", 0.1)
    log = _append(fleet, "loading\n")
    with pytest.raises(StartError) as caught:
        fleet.wait_for_engine()
    assert str(caught.value) == (
        f"a gateway with an engine behind it did not happen within 0 s; see {fleet.home.logs}\n{log} says:\n  loading"
    )


STOPPING = """
import signal, sys
from fleet.home import Home
from fleet.process_states import StatesFile
signal.signal(signal.SIGTERM, lambda *_: print("told", flush=True))
with Home.open({"RLFLEET_HOME": sys.argv[1]}) as home:
    file = StatesFile(home)
    file.phase = "stopping"
    file.write([])
    print("up", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def _own_signals() -> Iterator[None]:
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    yield
    for one, handler in before.items():
        signal.signal(one, handler)


@pytest.mark.usefixtures("_own_signals")
def test_a_second_signal_does_not_break_the_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environ, found = {"RLFLEET_HOME": str(tmp_path)}, list[str]()

    def stop(_: Servers) -> None:
        known = read_states(tmp_path, os.getpid())
        found.append(known.phase if known else "")
        os.kill(os.getpid(), signal.SIGTERM)
        found.append("stopped")

    monkeypatch.setattr(Servers, "start", lambda self, **_: Endpoints("postgresql://h/d", "redis://h/0"))
    monkeypatch.setattr(Servers, "stop", stop)
    monkeypatch.setattr(processes, "plan", lambda *_: PLAN)
    monkeypatch.setattr(Fleet, "_migrate", lambda self: None)
    with pytest.raises(SystemExit), Fleet(environ):
        os.kill(os.getpid(), signal.SIGTERM)
    assert found == ["stopping", "stopped"]
    assert holder(environ) is None


def test_down_tells_a_fleet_that_stops_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_HOME", str(tmp_path))
    monkeypatch.setattr("fleet.up_cli.STOP_SECONDS", 0.3)
    argv = [sys.executable, "-c", STOPPING, str(tmp_path)]
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as stopping:
        assert stopping.stdout is not None
        assert stopping.stdout.readline() == "up\n"
        ran = CliRunner().invoke(app, ["down"])
        assert isinstance(ran.exception, StartError)
        assert "did not end within 0 s: wait and run `rlfleet down` again" in str(ran.exception)
        said, _ = stopping.communicate("end\n")
    assert said == ""
