"""A quick pipeline on a mix, as people run it: stopped halfway and gone on with, on real servers and workers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from fleet.home import Home
from fleet.ports import free_port
from fleet.processes import ROOT
from fleet.servers import Servers
from tests.fleet.left import left

pytestmark = pytest.mark.slow

MIX = "sat-small+textcraft-small"
FILE = f"""
name = "mixed"
environment = "{MIX}"

[model.starter]

[demonstrations]
scenarios = 60

[sft]
epochs = 1
token_budget = 2048
batch_episodes = 16
optimizer.learning_rate = 3e-3

[rl]
rounds = 2
rollout = {{ scenarios = 4, episodes = 2, shard = 2 }}

[rl.train]
token_budget = 2048
lora = {{}}
optimizer.learning_rate = 2e-3

[validation]
count = 8

[held_out]
count = 12

[release]
min_scenarios = 8
"""
COUNTS = {
    "windows": "select count(*) from rlfleet.windows where state = 'trained'",
    "demonstrations": "select count(*) from rlfleet.trajectories where agent_id = 'oracle'",
    "of sat": "select count(*) from rlfleet.trajectories where agent_id = 'oracle'"
    " and details ->> 'type' like 'sat-small: %'",
    "played": "select count(*) from rlfleet.trajectories where agent_id <> 'oracle'",
    "scenarios": "select count(distinct scenario_id) from rlfleet.trajectories where agent_id <> 'oracle'",
    "versions": "select count(*) from rlfleet.versions",
    "failed": "select count(*) from rlfleet.jobs where state in ('failed', 'dead')",
    "decisions": "select count(*) from rlfleet.decisions where run_id is not null",
}


@pytest.fixture
def environ() -> Iterator[dict[str, str]]:
    folder = Path(tempfile.mkdtemp(prefix="rlfleet-pipeline-"))
    folder.chmod(0o711)
    given = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    yield given | {
        "RLFLEET_HOME": str(folder / "home"),
        "RLFLEET_GATEWAY_PORT": str(free_port()),
        "RLFLEET_FLOWER_PORT": str(free_port()),
        "RLFLEET_ADMIN_PORT": str(free_port()),
        "RLFLEET_TICK_SECONDS": "1",
    }
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(900)
def test_a_stopped_pipeline_goes_on_to_its_report(environ: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "mixed.toml"
    file.write_text(FILE)
    with _start(environ, "run", str(file)) as first:
        _await_line(first, "SFT on the demonstrations")
        first.send_signal(signal.SIGINT)
        said, _ = first.communicate(timeout=120)
        assert first.returncode == 130
        assert "stopping; workers have up to" in said
        assert said.endswith("stopped; the same command goes on from here\n")
    folder = Path(environ["RLFLEET_HOME"]) / "pipelines" / "mixed"
    before = {path: path.stat().st_mtime_ns for path in (folder / "demonstrations.jsonl", folder / "base.json")}

    resumed = _run(environ, "run", str(file), "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert "mixed goes on where it was" in resumed.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before
    found = json.loads(resumed.stdout)
    assert json.loads((folder / "report.json").read_text()) == found
    _is_a_report(found)
    assert _counted(environ) == {
        "windows": 3,
        "demonstrations": 60,
        "of sat": 30,
        "played": 2 * 4 * 2,
        "scenarios": 2 * 4,
        "versions": 3,
        "failed": 0,
        "decisions": 1,
    }
    assert left(environ) == []

    changed = file.with_name("changed.toml")
    changed.write_text(FILE.replace("rounds = 2", "rounds = 3"))
    refused = _run(environ, "run", str(changed))
    assert refused.returncode == 2
    assert "it was begun with rl.rounds = 2, and not 3; choose another name, or start anew with --fresh" in (
        refused.stderr
    )


def _is_a_report(found: Mapping[str, Any]) -> None:
    assert (found["schema"], found["pipeline"], found["environment"], found["done"]) == (1, "mixed", MIX, True)
    assert [found["results"][stage]["n"] for stage in ("base", "sft", "rl")] == [12, 12, 12]
    assert {kind.split(":")[0] for kind in found["results"]["base"]["types"]} == set(MIX.split("+"))
    assert found["results"]["sft"]["version"] == "mixed-v1.0.0"
    assert (found["rounds"], found["trajectories"], found["quarantined"]) == (2, 76, {})
    assert set(found["seconds"]) == {"demonstrate", "model", "start", "base", "sft", "rl"}
    assert found["decision"]


def _counted(environ: dict[str, str]) -> dict[str, int]:
    with Home.open(environ) as home:
        servers = Servers(home, environ)
        connection = psycopg2.connect(servers.start().database_url.replace("+psycopg2", ""))
        try:
            with connection, connection.cursor() as cursor:
                return {name: _one(cursor, query) for name, query in COUNTS.items()}
        finally:
            connection.close()
            servers.stop()


def _one(cursor: Any, query: str) -> int:
    cursor.execute(query)
    return int(cursor.fetchone()[0])


def _start(environ: Mapping[str, str], *words: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "fleet", *words]
    return subprocess.Popen(
        argv, cwd=ROOT, env=dict(environ), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _run(environ: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "fleet", *words]
    return subprocess.run(argv, cwd=ROOT, env=dict(environ), capture_output=True, text=True, timeout=600, check=False)


def _await_line(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return
    pytest.fail(f"the pipeline ended with {process.wait()} before it said {words!r}")
