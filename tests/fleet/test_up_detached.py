"""`rlfleet up --detach` as people use it: up, looked at, signed in to, taken down in the middle of a job."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg2
import pytest

from fleet import backup
from fleet.ports import free_port
from fleet.processes import ROOT
from tests.fleet.left import left
from tests.tasks.conftest import HOUR, trajectory

pytestmark = pytest.mark.slow

PROCESSES = ["postgres", "valkey", "worker-gpu0", "gateway", "worker-collect", "worker-score", "worker-maint"]
PROCESSES += ["beat-1", "beat-2", "flower", "admin"]
SCORE = "select state, fence, interruptions, attempt from rlfleet.jobs where kind = 'score'"
LINE = """
base_model = "/srv/models/base"
source = "{source}"
train = {{ objective = "sft", steps = 1, optimizer = {{ learning_rate = 1e-3 }} }}
scoring = {{ method = "judge", judge = {{ model = "slow", timeout_seconds = 600 }} }}
"""


@pytest.fixture
def environ() -> Iterator[dict[str, str]]:
    folder = Path(tempfile.mkdtemp(prefix="rlfleet-detached-"))
    folder.chmod(0o711)
    given = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    ports = {f"RLFLEET_{name}_PORT": str(free_port()) for name in ("GATEWAY", "FLOWER", "ADMIN")}
    environ = given | ports | {"RLFLEET_HOME": str(folder / "home"), "RLFLEET_TICK_SECONDS": "1"}
    with socket.create_server(("127.0.0.1", 0)) as judge:  # takes every question, and has no answer
        environ |= {"RLFLEET_JUDGE_URL": f"http://127.0.0.1:{judge.getsockname()[1]}/v1", "RLFLEET_JUDGE_KEY": "any"}
        yield environ | {"RLFLEET_DEVICES": "cpu", "RLFLEET_DRAIN_SECONDS": "3"}
        _run(environ, "down")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(600)
def test_a_fleet_is_up_looked_at_signed_in_to_and_down(environ: dict[str, str], tmp_path: Path) -> None:
    up = _run(environ, "up", "--detach", "--json")
    assert up.returncode == 0, up.stderr
    told = json.loads(up.stdout)
    assert (told["schema"], told["home"]) == (1, environ["RLFLEET_HOME"])
    assert "admin runs (pid" in up.stderr
    again = _run(environ, "up", "--detach")
    assert (again.returncode, again.stdout) == (1, "")
    assert f"a fleet runs here (pid {told['pid']}): `rlfleet status`" in again.stderr

    found = _status(environ, 0)
    assert list(found) == [
        *("schema", "status", "processes", "queues", "gpus", "stable", "canary", "urls", "reasons"),
    ]
    assert (found["schema"], found["status"], found["reasons"]) == (1, "healthy", [])
    assert [one["name"] for one in found["processes"]] == PROCESSES
    assert {(one["state"], one["restarts"]) for one in found["processes"]} == {("running", 0)}
    pids = {one["name"]: one["pid"] for one in found["processes"]}
    supervisor = psutil.Process(told["pid"])
    assert set(pids.values()) <= {one.pid for one in supervisor.children()}
    assert [one["name"] for one in found["queues"]] == ["collect", "score", "maint", "gpu"]
    assert {one["capacity"] for one in found["queues"]} == {1}
    assert [(one["device"], one["doing"], one["memory"]) for one in found["gpus"]] == [("cpu", "serve", None)]
    assert found["urls"] == told["urls"]
    assert found["urls"]["admin"] == f"http://127.0.0.1:{environ['RLFLEET_ADMIN_PORT']}"
    every = json.loads(_run(environ, "status", "--json", "--all").stdout)
    assert every["ok"] is True
    assert {one["name"].split("@")[0] for one in every["workers"]} == {"collect", "score", "maint", "gpu0"}

    assert _row(json.loads(_run(environ, "env", "--json").stdout)["DATABASE_URL"], "select 1") == (1,)

    token = _run(environ, "token", "create", "ada").stdout.strip()
    with httpx.Client(base_url=found["urls"]["admin"], trust_env=False, timeout=30) as client:
        assert client.get("/").status_code == 303
        assert client.get("/", headers={"Authorization": f"Bearer {token}"}).status_code == 200
        assert client.get("/ready").json()["status"] == "ok"

    psutil.Process(pids["worker-score"]).kill()
    _until(lambda: _restarts(_status(environ, None)).get("worker-score") == 1, 60)
    _until(lambda: _run(environ, "status").returncode == 0, 120)

    _ask_for_scores(environ, tmp_path)
    _until(lambda: [one["running"] for one in _status(environ, None)["queues"]] == [0, 1, 0, 0], 60)

    everything = [supervisor, *supervisor.children(recursive=True)]
    down = _run(environ, "down", "--json")
    assert (down.returncode, json.loads(down.stdout)) == (0, {"schema": 1, "stopped": told["pid"]})
    assert [one for one in everything if one.is_running() and one.status() != psutil.STATUS_ZOMBIE] == []
    assert left(environ) == []
    assert _status(environ, 1)["status"] == "stopped"
    assert not (Path(environ["RLFLEET_HOME"]) / "processes.json").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", "")
        with backup.database(environ):
            handed_back = _row(os.environ["DATABASE_URL"], SCORE)
    assert handed_back == ("queued", 1, 1, 0), "it was given back, and the attempt was not charged"


@pytest.mark.timeout(300)
def test_a_start_that_fails_shows_the_end_of_the_log(environ: dict[str, str]) -> None:
    refused = _run(environ | {"RLFLEET_DRAIN_SECONDS": "-1"}, "up", "--detach")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "the fleet ended with status 2 before it was up" in refused.stderr
    assert "up.log says:\n  rlfleet: RLFLEET_DRAIN_SECONDS" in refused.stderr
    assert left(environ) == []


def _ask_for_scores(environ: dict[str, str], folder: Path) -> None:
    logs, file = folder / "agent.jsonl", folder / "line.toml"
    logs.write_text("".join(trajectory(number).model_dump_json() + "\n" for number in range(2)))
    file.write_text(LINE.format(source=f"jsonl://{logs}"))
    assert _run(environ, "line", "judged", str(file)).returncode == 0
    asked = _run(environ, "train", HOUR, "--line", "judged")
    assert asked.returncode == 0, asked.stderr


def _row(url: str, statement: str) -> tuple[Any, ...]:
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            (row,) = cursor.fetchall()
            return tuple(row)
    finally:
        connection.close()


def _status(environ: dict[str, str], code: int | None) -> dict[str, Any]:
    done = _run(environ, "status", "--json")
    assert code is None or done.returncode == code, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _restarts(found: dict[str, Any]) -> dict[str, int]:
    return {one["name"]: one["restarts"] for one in found["processes"]}


def _run(environ: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "fleet", *words]
    return subprocess.run(argv, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=500, check=False)


def _until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
