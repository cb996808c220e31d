from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleet import processes, running
from fleet.home import Endpoints, Home, read_endpoints
from fleet.processes import Plan
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
