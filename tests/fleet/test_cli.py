from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleet import cli
from rl.errors import InvalidInput, InvalidSettings, StartError
from tests.conftest_database import *  # noqa: F403

LINE = """
base_model = "/srv/models/base"
source = "jsonl:///srv/logs/agent.jsonl"

[train]
objective = "sft"
steps = 10
optimizer = { learning_rate = 1e-3 }
"""
RUN = """
name = "practice"
rounds = 2
train = { objective = "grpo", lora = {}, optimizer = { learning_rate = 1e-3 } }
rollout = { environment = "babyai", scenarios = 4, episodes = 4 }
validation = { environment = "babyai", split = "validation", count = 8 }
held_out = { environment = "babyai", split = "held_out", count = 8 }
"""


@pytest.fixture
def fleet(database: str, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:9/0")
    return CliRunner()


def _file(folder: Path, text: str) -> str:
    path = folder / "config.toml"
    path.write_text(text)
    return str(path)


def test_a_line_is_made_from_a_file_and_shown(fleet: CliRunner, tmp_path: Path) -> None:
    made = fleet.invoke(cli.app, ["line", "support", _file(tmp_path, LINE)])
    assert made.stdout == "line support: /srv/models/base, source jsonl:///srv/logs/agent.jsonl\n"
    shown = json.loads(fleet.invoke(cli.app, ["status", "--json"]).stdout)
    assert (shown["schema"], shown["ok"]) == (1, True)
    assert {"line": "support", "windows": {}, "versions": 0, "stable": None, "share": 0} in shown["lines"]


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (LINE.replace("steps = 10", "steps = 0"), "config.toml: train.sft.steps"),
        (LINE + "betas = 1\n", "config.toml: train.sft.betas"),
        ("base_model =", "file"),
    ],
)
def test_a_bad_file_is_refused_by_field(fleet: CliRunner, tmp_path: Path, text: str, field: str) -> None:
    refused = fleet.invoke(cli.app, ["line", "support", _file(tmp_path, text)])
    assert isinstance(refused.exception, InvalidSettings)
    assert refused.exception.field == field


def test_a_run_needs_a_released_version(fleet: CliRunner, tmp_path: Path) -> None:
    fleet.invoke(cli.app, ["line", "support", _file(tmp_path, LINE)])
    refused = fleet.invoke(cli.app, ["run", _file(tmp_path, RUN), "--line", "support"])
    assert isinstance(refused.exception, InvalidInput)
    assert "no released version" in str(refused.exception)


def test_jobs_are_listed_cancelled_and_queued_again(fleet: CliRunner, tmp_path: Path) -> None:
    from db import jobs, lines
    from db.session import transaction

    fleet.invoke(cli.app, ["line", "support", _file(tmp_path, LINE)])
    with transaction() as session:
        spec = jobs.Spec("score", lines.named(session, "support").id, {"window": "2025-01-15T10:00"}, {}, "score")
        job = str(jobs.request(session, spec))
    assert fleet.invoke(cli.app, ["jobs", "cancel", job]).stdout == f"job {job}: cancelled\n"
    listed = json.loads(fleet.invoke(cli.app, ["jobs", "list", "--state", "cancelled", "--json"]).stdout)
    assert [one["job_id"] for one in listed["jobs"]] == [int(job)]
    again = fleet.invoke(cli.app, ["jobs", "requeue", job])
    assert again.exit_code == 1  # recorded; the broker is away
    shown = json.loads(fleet.invoke(cli.app, ["jobs", "show", job, "--json"]).stdout)
    assert shown["job"]["state"] == "queued"
    assert [(event["from"], event["to"]) for event in shown["events"]] == [
        (None, "queued"),
        ("queued", "cancelled"),
        ("cancelled", "queued"),
    ]
    unknown = fleet.invoke(cli.app, ["jobs", "show", "999999"])
    assert isinstance(unknown.exception, InvalidInput)


def test_without_a_fleet_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DATABASE_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RLFLEET_HOME", str(tmp_path))
    refused = CliRunner().invoke(cli.app, ["status"])
    assert isinstance(refused.exception, StartError)
    assert "rlfleet up" in str(refused.exception)
