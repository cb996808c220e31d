"""``rlfleet assess`` on files and databases, as a process of its own."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fleet.assess_cli import VARIABLE, source_url
from fleet.home import Endpoints, Home
from fleet.terminal import NO_FLEET
from rl.errors import InvalidInput
from tests.conftest_database import database_url, postgres_url
from tests.sources.babylon import SENTINEL, VERSION, build, checksums, reader

__all__ = ["database_url", "postgres_url"]

ROOT = Path(__file__).parents[2]
SECRET = "postgresql://me:verysecret@127.0.0.1:9/none"


def assess(*options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    env |= {"PYTHONPATH": str(ROOT), "COLUMNS": "120", **environ}
    argv = [sys.executable, "-m", "fleet", "assess", *options]
    return subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=120)


def trajectory(number: int, scenario: str, reward: float, **fields: Any) -> dict[str, Any]:
    call = {
        "call_id": f"t{number}-0",
        "turn": 0,
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "You see: red ball 3 ahead"}],
        "response": {"role": "assistant", "content": "go to red ball"},
    }
    return {
        "trajectory_id": f"t{number}",
        "scenario_id": scenario,
        "agent_id": "a1",
        "started_at": "2025-01-15T10:05:00Z",
        "ended_at": f"2025-01-15T{10 + number // 4:02}:06:00Z",
        "reward": reward,
        "calls": [call],
    } | fields


def exchange(number: int) -> dict[str, Any]:
    choice = {"message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}
    return {
        "timestamp": f"2025-01-15T10:05:0{number}Z",
        "request": {"model": "gpt-4o", "messages": [{"role": "user", "content": "2 + 2?"}]},
        "response": {"id": f"chatcmpl-{number:020}", "model": "gpt-4o", "choices": [choice]},
    }


def write(path: Path, *rows: dict[str, Any] | str) -> str:
    text = "".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


@pytest.fixture
def logs(tmp_path: Path) -> str:
    rows = [trajectory(n, f"s{n // 2}", float(n % 2)) for n in range(8)]
    return write(tmp_path / "agent logs.jsonl", *rows, "not json")


def test_json_says_what_is_in_a_file(logs: str) -> None:
    done = assess(logs, "--json", "--tokens-per-second", "10")
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert (said["schema"], said["trainable"]) == (1, True)
    assert said["source"] == f"jsonl://{logs}".replace(" ", "%20")
    assert (said["rows"]["read"], said["rows"]["quarantined"]) == (9, 1)
    assert said["rows"]["reasons"][0]["examples"][0]["row"] == "agent logs.jsonl:9"
    assert said["time"]["hours"] == {"2025-01-15T10:00": 4, "2025-01-15T11:00": 4}
    assert said["groups"]["sizes"] == {"2": 4}
    # Each prompt has 25 characters, each answer 14; the second of each group begins with the first one's prompt.
    assert (said["tokens"]["read"], said["tokens"]["spoken"], said["tokens"]["computed"]) == (50, 28, 53)
    assert (said["day"]["tokens"], said["day"]["seconds"]) == (78, 5.3)
    assert [one["objective"] for one in said["objectives"] if one["allowed"]] == ["sft", "weighted_sft", "dpo"]


def test_the_report_for_people(logs: str) -> None:
    done = assess(logs)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [" ".join(line.replace("│", " ").replace("┃", " ").split()) for line in done.stdout.splitlines()]
    assert "rows 9 read, 8 trajectories, 1 quarantined" in lines
    assert "1 jsonl line not JSON: Expecting value agent logs.jsonl:9" in lines
    assert "groups 4 (4 of 2), 4 with rewards that differ" in lines
    assert "dpo yes groups that differ: 4, each gives one pair" in lines
    assert "grpo no no call has token ids and log-probabilities" in lines
    assert "takes unknown: measure what your device does, and give --tokens-per-second" in lines
    assert "To unlock more:" in lines


def test_a_window_and_a_limit(logs: str) -> None:
    hour = json.loads(assess(logs, "--json", "--window", "2025-01-15T11:00").stdout)
    assert (hour["rows"]["trajectories"], list(hour["time"]["hours"])) == (4, ["2025-01-15T11:00"])
    assert json.loads(assess(logs, "--json", "--limit", "3").stdout)["rows"]["read"] == 3


def test_nothing_to_train_on_is_exit_code_1(tmp_path: Path) -> None:
    done = assess(write(tmp_path / "a.jsonl", "not json"))
    assert done.returncode == 1
    assert done.stdout.endswith("nothing here can be trained on\n")
    assert assess(write(tmp_path / "b.jsonl"), "--json").returncode == 1


@pytest.mark.parametrize("name", ["calls.jsonl", "calls.ndjson.gz"])
def test_a_log_of_requests_is_known_by_its_lines(tmp_path: Path, name: str) -> None:
    done = assess(write(tmp_path / name, "", "not json", exchange(1), exchange(2)), "--json")
    said = json.loads(done.stdout)
    assert (done.returncode, said["source"]) == (0, f"requests://{tmp_path}/{name}")
    assert (said["rewards"]["missing"], said["groups"]["sizes"], said["groups"]["unnamed_scenarios"]) == (
        2,
        {"2": 1},
        2,
    )
    assert {one["reason"] for one in said["objectives"] if one["objective"] == "dpo"} == {"no rewards"}


def test_a_folder_of_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([trajectory(n, "s", n) for n in range(3)]), tmp_path / "a.parquet")
    for place in (tmp_path, tmp_path / "a.parquet", f"parquet://{tmp_path}"):
        said = json.loads(assess(str(place), "--json").stdout)
        assert (said["rows"]["trajectories"], said["rewards"]["most"]) == (3, 2.0)


@pytest.mark.parametrize(
    "options",
    [
        ["none.jsonl"],
        ["NO_SUCH_VARIABLE"],
        ["mysql://me:verysecret@host/db"],
        ["carrier-pigeon:///x"],
        ["{logs}", "--window", "yesterday"],
        ["{logs}", "--limit", "0"],
        [str(Path(__file__))],
    ],
    ids=str,
)
def test_wrong_input_is_exit_code_2(logs: str, options: list[str]) -> None:
    done = assess(*[one.replace("{logs}", logs) for one in options])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr
    assert "Traceback" not in done.stderr
    assert "verysecret" not in done.stderr


@pytest.mark.parametrize("by_name", [True, False])
def test_a_babylon_style_database_is_read_and_left_as_it_was(database_url: str, by_name: bool) -> None:
    expected = build(database_url, 800, seed=2)
    before = checksums(database_url)
    with reader(database_url) as url:
        done = assess("AGENT_LOGS" if by_name else url, "--json", AGENT_LOGS=url)
    said = json.loads(done.stdout)
    assert done.returncode == 0
    assert said["source"] == f"babylon://{'AGENT_LOGS' if by_name else VARIABLE}"
    assert (said["rows"]["read"], said["rows"]["trajectories"]) == (800, len(expected.usable))
    counted: Counter[str] = Counter()
    for one in said["rows"]["reasons"]:
        counted[one["reason"]] += one["count"]
    assert counted == expected.reasons
    assert said["calls"]["total"] == expected.calls
    assert VERSION in said["calls"]["by_model"]
    assert {"trader", "degen", "researcher"} <= set(said["archetypes"])
    assert [one["objective"] for one in said["objectives"] if one["allowed"]] == ["sft", "weighted_sft", "dpo"]
    assert SENTINEL not in done.stdout
    assert url not in done.stdout + done.stderr
    assert checksums(database_url) == before


@pytest.mark.parametrize("where", [SECRET, "MY_DATABASE"])
def test_a_database_that_is_away_is_said_without_its_password(where: str) -> None:
    done = assess(where, MY_DATABASE=SECRET)
    assert (done.returncode, done.stdout) == (1, "")
    assert "rlfleet: " in done.stderr
    assert "Traceback" not in done.stderr
    assert "verysecret" not in done.stderr


def test_what_agents_reported_is_found_by_the_home_of_the_fleet(postgres_url: str, tmp_path: Path) -> None:
    environ = {"RLFLEET_HOME": str(tmp_path / "home")}
    refused = assess("recorded://main", **environ)
    assert (refused.returncode, refused.stderr) == (1, f"rlfleet: {NO_FLEET}\n")
    with Home.open(environ) as home:
        home.write_endpoints(Endpoints(postgres_url, "redis://127.0.0.1:9/0"))
        found = assess("recorded://main", **environ)
    assert found.returncode == 1
    assert found.stderr.startswith("rlfleet: the database has no table rlfleet.")


def test_a_database_is_named_by_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setenv("MY_DATABASE", "postgres://h/db")
    assert source_url("MY_DATABASE") == "babylon://MY_DATABASE"
    assert source_url(SECRET) == f"babylon://{VARIABLE}"
    assert os.environ[VARIABLE] == SECRET
    monkeypatch.setenv("OTHER", "mysql://me:verysecret@h/db")
    with pytest.raises(InvalidInput, match="no environment variable of that name holds a postgresql:// URL"):
        source_url("OTHER")
