"""A fleet that is no more, or half of one: what `rlfleet status` makes of what is left."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from db import session, settings
from fleet import standing, summary
from fleet.home import Endpoints, Home
from fleet.probes import Said
from fleet.process import State, Status
from fleet.process_states import Known, StatesFile

LONG_AGO = datetime(2025, 1, 15, tzinfo=UTC)
STOPPING = "the fleet is being stopped: wait for `rlfleet down` to end"


def status(name: str, state: State = State.RUNNING, since: datetime = LONG_AGO) -> Status:
    return Status(name, os.getpid(), state, 0, since)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[socket.socket, str]]:
    """A server that takes connections and says nothing, with its address; this process forgets its database."""
    for name in ("DATABASE_URL", "REDIS_URL"):
        monkeypatch.setenv(name, "to be put back")
    settings.settings.cache_clear()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server, f"127.0.0.1:{server.getsockname()[1]}"
    settings.settings.cache_clear()
    session._engine.cache_clear()


def test_variables_of_a_fleet_that_is_no_more_are_named(tmp_path: Path) -> None:
    environ = {"RLFLEET_HOME": str(tmp_path)}
    with Home.open(environ) as home:
        secret = home.secret("postgres.password")
    environ["DATABASE_URL"] = f"postgresql://rlfleet:{secret}@127.0.0.1:9/postgres"
    found = summary.read(environ)
    assert found.status == "stopped"
    assert found.reasons[1].words.startswith("DATABASE_URL of this shell names a fleet that is no more")
    assert secret not in str(found.shown())


def test_a_fleet_without_its_supervisor_is_hurt(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    found = [one.words for one in standing.of_processes(Known(gone.pid, "up", [], {}), tmp_path)]
    assert found == [
        f"the supervisor (pid {gone.pid}) is gone, and what it has started ends: "
        "wait for `rlfleet status` to say stopped, then `rlfleet up --detach`"
    ]


def test_a_fleet_that_is_being_stopped_has_one_remedy(tmp_path: Path) -> None:
    processes = [status("gateway", State.STOPPED), status("worker-gpu0"), status("flower", State.WAITING)]
    found = [one.words for one in standing.of_processes(Known(os.getpid(), "stopping", processes, {}), tmp_path)]
    assert found == [STOPPING]


def test_what_else_is_wrong_is_not_told_while_it_stops(tmp_path: Path, silent: tuple[socket.socket, str]) -> None:
    environ = {"RLFLEET_HOME": str(tmp_path)}
    with Home.open(environ) as home:
        file = StatesFile(home)
        file.phase = "stopping"
        file.write([status("valkey", State.STOPPED)])
        home.write_endpoints(Endpoints("postgresql://u:p@127.0.0.1:9/d", "redis://127.0.0.1:9/0"))
        found = summary.here(environ)
    assert (found.status, found.shown()["reasons"]) == ("degraded", [STOPPING])


def test_a_database_that_hangs_is_waited_for_once(
    tmp_path: Path, silent: tuple[socket.socket, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, address = silent
    monkeypatch.setattr(summary, "SECONDS", 0.5)
    environ = {"RLFLEET_HOME": str(tmp_path)}
    with Home.open(environ) as home, socket.create_server(("127.0.0.1", 0)) as pages:
        pages.setblocking(False)
        url = f"http://127.0.0.1:{pages.getsockname()[1]}"
        file = StatesFile(home)
        file.phase = "up"
        file.write([status("gateway"), status("admin")])
        home.write_endpoints(Endpoints(f"postgresql://u:p@{address}/d", "redis://127.0.0.1:9/0", url, url))
        found = summary.here(environ)
        with pytest.raises(BlockingIOError):
            pages.accept()
    words = "\n".join(found.shown()["reasons"])
    assert "no answer within 0.5 s: start it, or correct DATABASE_URL" in words
    assert (found.status, found.is_up) == ("degraded", False)


def test_a_device_that_has_work_does_not_keep_the_fleet_from_being_up(tmp_path: Path) -> None:
    begun = datetime.now(UTC) - timedelta(seconds=(standing.START_SECONDS + standing.ENGINE_SECONDS) / 2)
    known = Known(1, "up", [status("gateway"), status("worker-gpu0", since=begun)], {})
    endpoints = Endpoints("postgresql://h/d", "redis://h/0", "http://g")
    levels = {}
    for work in ("", summary._work([{"doing": "train job 7 of line main"}])):
        (found,) = standing.of_pages(
            known, endpoints, tmp_path, lambda _: Said(503, {"engine": "cpu refuses connections"}), work=work
        )
        state = summary.Summary(is_there=True, has_rows=True, process_reasons=[found])
        levels[work] = (state.status, state.is_up)
        assert found.words.startswith(
            f"no engine answers (cpu refuses connections){work and ' while there is '}{work}: "
        )
    assert levels == {"": ("starting", False), "train job 7 of line main": ("degraded", True)}
    loading = Known(1, "up", [status("gateway"), status("worker-gpu0", since=datetime.now(UTC))], {})
    (found,) = standing.of_pages(
        loading, endpoints, tmp_path, lambda _: Said(503, {"engine": "none has announced itself"}), work="train job 7"
    )
    assert found.level == "starting"
    assert summary._work([{"doing": "train job 7 of line main"}, {"doing": "serve"}]) == "", "one could answer"
