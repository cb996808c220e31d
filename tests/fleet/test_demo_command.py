"""`rlfleet demo` as people run it: stopped halfway and gone on with, started twice, and where it cannot start."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from fleet.ports import free_port
from fleet.processes import ROOT
from tests.fleet.left import left

pytestmark = pytest.mark.slow


@pytest.fixture
def environ() -> Iterator[dict[str, str]]:
    folder = Path(tempfile.mkdtemp(prefix="rlfleet-demo-"))
    folder.chmod(0o711)
    given = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    yield given | {
        "RLFLEET_HOME": str(folder / "home"),
        "RLFLEET_GATEWAY_PORT": str(free_port()),
        "RLFLEET_FLOWER_PORT": str(free_port()),
        "RLFLEET_ADMIN_PORT": str(free_port()),
    }
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(600)
def test_a_stopped_demo_leaves_nothing_running_and_goes_on(environ: dict[str, str], tmp_path: Path) -> None:
    outcome = tmp_path / "outcome.json"
    words = ("demo", "--quick", "--seed", "5", "--json", str(outcome))
    with _start(environ, *words) as first:
        _await_line(first, "v1.0.0 from the logs")
        second = _run(environ, *words)
        assert second.returncode == 1
        assert f"a fleet runs here (pid {first.pid}): `rlfleet status`" in second.stderr
        first.send_signal(signal.SIGINT)
        assert first.wait(120) == 130
    assert left(environ) == []
    assert not outcome.exists()

    resumed = _run(environ, *words)
    assert resumed.returncode in (0, 1), resumed.stderr
    assert "goes on where it was" in resumed.stdout
    assert left(environ) == []
    found = json.loads(outcome.read_text())
    assert found["jobs"]["failed"] == found["jobs"]["dead"] == 0
    assert found["base"]["n"] == found["final"]["n"] == found["logging_agent"]["n"] == 40
    assert found["gateway_version"].startswith("quick-5-v1.0.")
    assert found["released"] is (resumed.returncode == 0)
    assert len(set(found["ids"].values())) == 3
    assert (found["windows"], found["trajectories"]) == (3, 300 + 2 * 8 * 4)
    assert found["compute_seconds"] > found["seconds"]
    for name in ("success.png", "success.svg"):
        assert (Path(environ["RLFLEET_HOME"]) / "demo" / "quick-5" / name).stat().st_size > 10_000


def test_a_taken_port_is_named(environ: dict[str, str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(environ["RLFLEET_GATEWAY_PORT"])))
        other.listen()
        refused = _run(environ, "demo", "--quick")
    assert refused.returncode == 1
    assert f"RLFLEET_GATEWAY_PORT = {environ['RLFLEET_GATEWAY_PORT']}: the port is taken" in refused.stderr
    assert left(environ) == []


@pytest.mark.parametrize("variable", ["DATABASE_URL", "REDIS_URL"])
def test_a_server_that_is_away_is_named_without_its_password(environ: dict[str, str], variable: str) -> None:
    scheme = "postgresql" if variable == "DATABASE_URL" else "redis"
    refused = _run(environ | {variable: f"{scheme}://someone:hunter2@127.0.0.1:{free_port()}/0"}, "demo", "--quick")
    assert refused.returncode == 1
    assert variable in refused.stderr
    assert "127.0.0.1" in refused.stderr
    assert "hunter2" not in refused.stderr + refused.stdout
    assert left(environ) == []


@pytest.mark.platform
def test_a_full_disk_is_named(environ: dict[str, str]) -> None:
    home = Path(environ["RLFLEET_HOME"])
    home.mkdir(mode=0o711)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(home)], check=False)
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        refused = _run(environ, "demo", "--quick")
    finally:
        subprocess.run(["umount", str(home)], check=True)
    assert refused.returncode == 1
    assert "no room left" in refused.stderr
    assert left(environ) == []


def _start(environ: Mapping[str, str], *words: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "fleet", *words]
    return subprocess.Popen(
        argv, cwd=ROOT, env=dict(environ), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _run(environ: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "fleet", *words]
    return subprocess.run(argv, cwd=ROOT, env=dict(environ), capture_output=True, text=True, timeout=400, check=False)


def _await_line(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return
    pytest.fail(f"the demo ended with {process.wait()} before it said {words!r}")
