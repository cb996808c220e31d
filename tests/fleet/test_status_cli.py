"""`rlfleet status` of a fleet that is there, one that starts, one that is hurt, and one that other machines run."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import text
from typer.testing import CliRunner

from db import controls, dispatch, jobs, lines, pauses, queues, workers
from db.queues import Held
from db.session import transaction
from db.workers import Present
from fleet import cli, gpus, standing, summary
from fleet.home import Endpoints, Home
from fleet.probes import Said
from fleet.process import State, Status
from fleet.process_states import Known, StatesFile, read_states
from rl.config import LineConfig
from tests.conftest_database import *  # noqa: F403
from tests.conftest_database import empty
from tests.conftest_redis import broker, redis_url
from tests.db import trained

__all__ = ["broker", "redis_url"]

KEYS = ["schema", "status", "processes", "queues", "gpus", "stable", "canary", "urls", "reasons"]
LOOKED_AROUND = text("""
    insert into rlfleet.schedule_slots (name, slot_at)
    select 'look-around', now() - make_interval(secs => 60 * n + 1) from generate_series(0, 4) n
""")
HERE = socket.gethostname()
LONG_AGO = datetime(2025, 1, 15, tzinfo=UTC)


@pytest.fixture
def remote(database: str, broker: Redis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No fleet of this machine; a database and a broker of another."""
    monkeypatch.setenv("RLFLEET_HOME", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", database)
    for name in ("RLFLEET_GATEWAY_URL", "RLFLEET_FLOWER_URL"):
        monkeypatch.delenv(name, raising=False)
    with transaction() as session:
        empty(session)


class Well(BaseHTTPRequestHandler):
    """A health page that says yes."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def page() -> Iterator[str]:
    """The address of a server that is well."""
    with HTTPServer(("127.0.0.1", 0), Well) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def _status(code: int, *words: str) -> dict[str, Any]:
    done = CliRunner().invoke(cli.app, ["status", "--json", *words])
    assert done.exit_code == code, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_no_fleet_is_an_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DATABASE_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RLFLEET_HOME", str(tmp_path))
    found = _status(1)
    assert list(found) == KEYS
    assert (found["schema"], found["status"], found["processes"]) == (1, "stopped", [])
    assert found["urls"] == {"admin": None, "gateway": None, "flower": None}
    assert "`rlfleet up --detach` starts one" in found["reasons"][0]
    said = CliRunner().invoke(cli.app, ["status"])
    assert (said.exit_code, said.stdout.splitlines()[0]) == (1, "status: stopped")


def test_a_fleet_of_other_machines_is_known_by_its_rows(
    remote: None, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = _status(1)
    assert nobody["status"] == "stopped"
    assert "no worker has announced itself" in nobody["reasons"][0]
    for name, device in {"collect@a": "", "score@a": "", "maint@a": "", "gpu0@b": "gpu0"}.items():
        workers.announce(name, [name.split("@")[0].rstrip("0")], 2, device, 7)
    monkeypatch.setenv("RLFLEET_GATEWAY_URL", "http://127.0.0.1:9")
    assert _status(1)["reasons"] == [
        "gateway at http://127.0.0.1:9 does not answer: look at it, or correct RLFLEET_GATEWAY_URL"
    ]
    monkeypatch.setenv("RLFLEET_GATEWAY_URL", page)
    found = _status(0)
    assert list(found) == KEYS
    assert (found["status"], found["reasons"]) == ("healthy", [])
    assert {"name": "gpu0@b", "pid": 7, "state": "running", "restarts": None} in found["processes"]
    assert found["gpus"] == [{"device": "gpu0", "worker": "gpu0@b", "doing": "serve", "uuid": None, "memory": None}]
    assert found["urls"]["gateway"] == page
    assert {"ok", "jobs", "lines", "workers", "paused", "alerts", "mirrors"} <= _status(0, "--all").keys()


def test_what_hurts_is_named_with_its_remedy(remote: None) -> None:
    workers.announce("score@a", ["score"], 1, "", 7)
    with transaction() as session:
        line = trained.add_line(session)
        version = trained.add_version(session, line, state="ready")
        trained.release(session, version)
        made = [
            dispatch.request(session, dispatch.Spec(kind, line.id, {"n": kind}, {}, queue))
            for kind, queue in {"collect": "collect", "score": "score", "train": "gpu"}.items()
        ]
        stable = version.name
        controls.kill(session, line.id, True, "it burns", "ada")
        controls.pin(session, line.id, version.id, "it burns", "ada")
    claim = jobs.claim(made[1], "a:1", 60)
    assert claim is not None
    jobs.fail(claim, "wrong input", retry=False)
    pauses.pause("train", "the driver is replaced")
    found = _status(1)
    assert found["status"] == "degraded"
    assert found["stable"] == {"main": {"version": stable, "share": 100}}
    assert found["canary"] == {}
    depth = {one["name"]: (one["depth"], one["waiting"], one["running"]) for one in found["queues"]}
    assert depth == {"collect": (1, 0, 0), "score": (0, 0, 0), "maint": (0, 0, 0), "gpu": (0, 2, 0)}, (
        "the version's own training too"
    )
    assert found["queues"][0]["oldest_seconds"] >= 0
    words = "\n".join(found["reasons"])
    assert "1 jobs are due in queue collect and no worker serves it: start one" in words
    assert "1 jobs failed: `rlfleet jobs list --state failed` says why" in words
    assert "line main is killed, so that the base model answers: `rlfleet kill --off --line main" in words
    assert f"line main is pinned to {stable}: `rlfleet pin --clear --line main" in words
    assert "(the driver is replaced): `rlfleet jobs resume train`" in words


def test_beats_elsewhere_are_known_by_their_ticks(remote: None) -> None:
    workers.announce("score@a", ["score"], 1, "", 7)
    with transaction() as session:
        session.execute(LOOKED_AROUND)
    assert "no beat was heard for minutes" in _status(1)["reasons"][0]


def test_servers_that_are_away_are_reasons(remote: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:9/0")
    workers.announce("score@a", ["score"], 1, "", 7)
    assert "the broker does not answer" in _status(1)["reasons"][0]


def test_running_jobs_are_counted_and_waiting_ones_are_not_due(remote: None) -> None:
    with transaction() as session:
        lines.put(session, "main", LineConfig(base_model="/b"))
        line = lines.named(session, "main").id
        first = dispatch.request(session, dispatch.Spec("collect", line, {"window": "w"}, {}, "collect"))
        dispatch.request(session, dispatch.Spec("score", line, {"window": "w"}, {}, "score", after=(first,)))
    assert jobs.claim(first, "host:4711", 60) is not None
    with transaction() as session:
        found = {one.name: one for one in queues.listing(session)}
        (held,) = queues.held(session, "collect")
    assert (found["collect"].running, found["collect"].depth, found["collect"].oldest_seconds) == (1, 0, None)
    assert (found["score"].depth, found["score"].waiting) == (0, 1)
    assert (held.job_id, held.kind, held.line, held.owner) == (first, "collect", "main", "host:4711")


def test_states_are_written_when_they_change_and_read_truthfully(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    mine = Status("admin", os.getpid(), State.RUNNING, 2, LONG_AGO)
    lost = Status("flower", gone.pid, State.RUNNING, 0, LONG_AGO)
    with Home.open({"RLFLEET_HOME": str(tmp_path)}) as home:
        file = StatesFile(home)
        file.phase, file.devices = "up", {"gpu0": "GPU-1"}
        file.write([mine, lost])
        before = (tmp_path / "processes.json").stat()
        file.write([mine, lost])
        assert (tmp_path / "processes.json").stat().st_ino == before.st_ino, "nothing changed, nothing is written"
        assert before.st_mode & 0o777 == 0o600
        waiting = replace(lost, pid=None, state=State.WAITING)
        assert read_states(tmp_path, os.getpid()) == Known(os.getpid(), "up", [mine, waiting], {"gpu0": "GPU-1"})
        assert read_states(tmp_path, gone.pid) is None, "another supervisor's"
        file.remove()
        assert read_states(tmp_path, os.getpid()) is None


def test_a_fleet_that_starts_is_starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    environ = {"RLFLEET_HOME": str(tmp_path)}
    with Home.open(environ) as home:
        assert summary.read(environ).status == "starting"
        StatesFile(home).write([Status("postgres", os.getpid(), State.RUNNING, 0, LONG_AGO)])
        found = summary.read(environ).shown()
    assert found["processes"] == [{"name": "postgres", "pid": os.getpid(), "state": "running", "restarts": 0}]
    assert found["status"] == "starting"
    assert summary.read(environ).status == "stopped"


def _known(*processes: Status) -> Known:
    return Known(1, "up", list(processes), {})


def _running(name: str, *, seconds: float = 1000, restarts: int = 0) -> Status:
    return Status(name, 7, State.RUNNING, restarts, datetime.now(UTC) - timedelta(seconds=seconds))


def test_a_process_is_given_time_once(tmp_path: Path) -> None:
    known = _known(_running("worker-score", seconds=1), _running("worker-maint"), _running("worker-collect"))
    there = Present(f"collect@{HERE}", ["collect"], 1, "", 7, "", 2.0)
    silent = replace(there, name=f"maint@{HERE}", silent_seconds=75.0)
    elsewhere = [replace(there, name="score@a"), replace(there, name="collect@a", silent_seconds=3000.0)]
    found = {
        one.words.split(":")[0]: one.level for one in standing.of_workers(known, [there, silent, *elsewhere], tmp_path)
    }
    assert found == {
        "worker-score has not announced itself": "starting",
        "worker-maint was last heard of 75 s ago": "degraded",
    }
    again = _known(_running("worker-score", seconds=1, restarts=1))
    assert [one.level for one in standing.of_workers(again, [], tmp_path)] == ["degraded"]


@pytest.mark.parametrize(
    ("body", "level", "words"),
    [
        (
            {"engine": "none has announced itself", "database": "ok"},
            "starting",
            "no engine answers (none has announced",
        ),
        ({"engine": "ok", "database": "does not answer"}, "degraded", "cannot answer (database does not answer)"),
        (
            {"engine": "ok", "database": "ok", "lines": {"main": {"status": "unavailable", "why": "killed"}}},
            "degraded",
            "cannot answer (line main: killed): see `rlfleet releases`",
        ),
    ],
)
def test_the_gateways_own_words_are_passed_on(tmp_path: Path, body: dict[str, Any], level: str, words: str) -> None:
    known = _known(_running("gateway"), _running("worker-gpu0", seconds=10))
    look: Callable[[str], Said] = lambda url: Said(503, body)  # noqa: E731
    endpoints = Endpoints("postgresql://h/d", "redis://h/0", "http://g")
    (found,) = standing.of_pages(known, endpoints, tmp_path, look)
    assert found.level == level
    assert words in found.words


def test_pages_that_answer_are_well_and_one_that_does_not_is_named(tmp_path: Path) -> None:
    known = _known(_running("gateway"), _running("admin"), _running("flower"))
    endpoints = Endpoints("postgresql://h/d", "redis://h/0", "http://g", "http://a", "http://f")
    asked: list[str] = []

    def look(url: str) -> Said:
        asked.append(url)
        return Said(0 if url.startswith("http://a") else 200)

    (found,) = standing.of_pages(known, endpoints, tmp_path, look)
    assert asked == ["http://g/health", "http://a/ready", "http://f/healthcheck"]
    assert (found.level, found.words.split(":")[0]) == ("degraded", "admin does not answer at http")


def test_devices_say_what_is_done_on_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'GPU-1, 1024, 143771'\necho 'GPU-2, 5, [N/A]'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    one = Present(f"gpu0@{HERE}", ["gpu"], 1, "gpu0", 7, "", 1.0)
    others = [replace(one, name=name) for name in ("gpu0@there", "gpu0@far", "gpu1@far")]
    held = [Held(number, "train", "main", f"{host}:99", "train") for number, host in ((12, HERE), (13, "far"))]
    found = gpus.shown([one, *others, replace(one, name=f"score@{HERE}", device="")], held, {"gpu0": "GPU-1"})
    assert [(each["worker"], each["doing"], each["uuid"]) for each in found] == [
        (f"gpu0@{HERE}", "train job 12 of line main (train)", "GPU-1"),
        ("gpu0@there", "serve", None),
        ("gpu0@far", "not known: several workers of its machine have devices", None),
        ("gpu1@far", "not known: several workers of its machine have devices", None),
    ]
    assert [each["memory"] for each in found[1:]] == [None, None, None]
    assert found[0]["memory"] == {"used_mib": 1024, "total_mib": 143771}
    assert gpus.memory() == {"GPU-1": {"used_mib": 1024, "total_mib": 143771}}
