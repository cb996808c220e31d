from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleet import cli, up_cli
from rl.errors import DatabaseRefused, InvalidInput, InvalidSettings, StartError
from tasks.judge_settings import URL, judge_settings
from tests.conftest_database import *  # noqa: F403
from tests.conftest_roles import login, speaking

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
release = { min_scenarios = 8 }
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


def test_a_secret_in_a_file_is_in_place_of_its_variable(
    fleet: CliRunner, database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "url").write_text(f"{database}\n")
    monkeypatch.setenv("DATABASE_URL_FILE", str(tmp_path / "url"))
    done = fleet.invoke(cli.app, ["migrate"])
    assert str(done.exception).endswith("DATABASE_URL and DATABASE_URL_FILE are both set: unset one of them")
    monkeypatch.delenv("DATABASE_URL")
    done = fleet.invoke(cli.app, ["migrate", "--json"])
    assert (done.exit_code, json.loads(done.stdout)["schema"]) == (0, 1)
    assert (os.environ["DATABASE_URL"], "DATABASE_URL_FILE" in os.environ) == (database, False)


@pytest.mark.parametrize("command", ["migrate", "status"])
def test_a_login_without_rights_is_told_so(
    fleet: CliRunner, database: str, command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RLFLEET_HOME", str(tmp_path))
    with login(database) as nobody, speaking(nobody):
        done = fleet.invoke(cli.app, [command])
        assert isinstance(done.exception, DatabaseRefused)
        said = "permission denied for schema rlfleet: give the login of DATABASE_URL the role"
        assert str(done.exception).startswith(said)
        seen = fleet.invoke(cli.app, ["doctor", "--json"])
        assert (seen.exit_code, said in seen.stdout) == (1, True)


def test_reconcile_without_an_end_is_not_one_object(fleet: CliRunner) -> None:
    refused = fleet.invoke(cli.app, ["reconcile", "--json"])
    assert isinstance(refused.exception, InvalidInput)
    assert refused.stdout == ""
    assert fleet.invoke(cli.app, ["reconcile", "--json", "--once"]).exit_code in (0, 1)


def test_a_line_is_made_from_a_file_and_shown(fleet: CliRunner, tmp_path: Path) -> None:
    made = fleet.invoke(cli.app, ["line", "support", _file(tmp_path, LINE)])
    assert made.stdout == "line support: /srv/models/base, source jsonl:///srv/logs/agent.jsonl\n"
    shown = json.loads(fleet.invoke(cli.app, ["status", "--json", "--all"]).stdout)
    assert (shown["schema"], shown["ok"]) == (1, True)
    empty = {"line": "support", "windows": {}, "versions": 0, "stable": None, "share": 0}
    traffic = {"canary": None, "canary_share": 0, "killed": False, "pinned": None}
    assert empty | traffic in shown["lines"]


def test_a_line_says_what_cannot_work_yet(fleet: CliRunner, tmp_path: Path) -> None:
    lone = fleet.invoke(cli.app, ["line", "first", _file(tmp_path, LINE.replace("agent.jsonl", "first.jsonl"))])
    assert lone.stderr.splitlines() == [
        "rlfleet: line first: base_model = '/srv/models/base': there is no such folder on this machine",
        "rlfleet: line first: line.source = 'jsonl:///srv/logs/first.jsonl': no such file; "
        "give an absolute path after jsonl://",
        "rlfleet: line first: it has [train], and neither [validation] nor [held_out]: "
        "its versions wait until a person deploys them",
    ]
    (tmp_path / "a.jsonl").touch()
    bare = f"base_model = '{tmp_path}'\nsource = 'jsonl://{tmp_path}/a.jsonl'\n"
    alone = fleet.invoke(cli.app, ["line", "second", _file(tmp_path, bare)])
    assert alone.stderr == "rlfleet: line second: it has no [train]: its windows are scored and never trained on\n"
    shared = fleet.invoke(cli.app, ["line", "third", _file(tmp_path, bare)])
    assert shared.exit_code == 0
    assert shared.stderr.splitlines()[1] == (
        "rlfleet: line third: line second reads the same source: ids are global over lines; "
        "rows are stored for the line that reads them first"
    )


def test_a_line_with_a_judge_and_no_address_of_one_says_so(
    fleet: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = f"base_model = '{tmp_path}'\nheld_out = {{ judge = {{ model = 'm' }} }}\n"
    monkeypatch.delenv(URL, raising=False)
    judge_settings.cache_clear()
    (without, _) = fleet.invoke(cli.app, ["line", "judged", _file(tmp_path, judged)]).stderr.splitlines()[::-1]
    assert without.startswith(f"rlfleet: line judged: held_out.judge: {URL} = ")
    assert without.endswith("; workers need it")
    monkeypatch.setenv(URL, "http://judge/v1")
    judge_settings.cache_clear()
    assert "held_out.judge" not in fleet.invoke(cli.app, ["line", "judged", _file(tmp_path, judged)]).stderr
    judge_settings.cache_clear()


@pytest.mark.parametrize("name", ["Support", "-a", "a b", "a/b", "", "a" * 65, "ä", "a\n"])
def test_a_line_has_a_plain_name(fleet: CliRunner, tmp_path: Path, name: str) -> None:
    refused = fleet.invoke(cli.app, ["line", "--", name, _file(tmp_path, LINE)])
    assert isinstance(refused.exception, InvalidInput)
    assert refused.exception.field == "line"


def test_a_line_that_has_another_name_is_changed(fleet: CliRunner, tmp_path: Path) -> None:
    from db import lines
    from db.session import transaction
    from rl.config import LineConfig

    with transaction() as session:
        lines.put(session, "Old Name", LineConfig(base_model="x"))
    assert fleet.invoke(cli.app, ["line", "Old Name", _file(tmp_path, LINE)]).exit_code == 0


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (LINE.replace("steps = 10", "steps = 0"), "config.toml: train.steps"),
        (LINE + "betas = 1\n", "config.toml: train"),
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
    from db import dispatch, jobs, lines
    from db.session import transaction

    fleet.invoke(cli.app, ["line", "support", _file(tmp_path, LINE)])
    with transaction() as session:
        spec = dispatch.Spec("score", lines.named(session, "support").id, {"window": "2025-01-15T10:00"}, {}, "score")
        job = str(dispatch.request(session, spec))
    assert fleet.invoke(cli.app, ["jobs", "cancel", job]).stdout == f"job {job}: cancelled\n"
    listed = json.loads(fleet.invoke(cli.app, ["jobs", "list", "--state", "cancelled", "--json"]).stdout)
    assert [one["job_id"] for one in listed["jobs"]] == [int(job)]
    over = fleet.invoke(cli.app, ["jobs", "cancel", job])
    assert (over.exit_code, over.stdout) == (0, f"job {job}: it was over already (cancelled)\n")
    for verb in ("requeue", "cancel", "show"):
        missing = fleet.invoke(cli.app, ["jobs", verb, "99999"])
        assert str(missing.exception) == "job = 99999: no such job; `rlfleet jobs list` shows them"
    nowhere = fleet.invoke(cli.app, ["jobs", "list", "--line", "nope"])
    assert "no such line" in str(nowhere.exception)
    again = fleet.invoke(cli.app, ["jobs", "requeue", job])
    assert again.exit_code == 0
    assert again.stdout.startswith(f"job {job}: queued")
    shown = json.loads(fleet.invoke(cli.app, ["jobs", "show", job, "--json"]).stdout)
    assert shown["job"]["state"] == "queued"
    assert [(event["from"], event["to"]) for event in shown["events"]] == [
        (None, "queued"),
        ("queued", "cancelled"),
        ("cancelled", "queued"),
    ]
    unknown = fleet.invoke(cli.app, ["jobs", "show", "999999"])
    assert isinstance(unknown.exception, InvalidInput)
    claim = jobs.claim(int(job), "a test", 60)
    assert claim is not None
    jobs.fail(claim, "wrong input", retry=False)
    aside = fleet.invoke(cli.app, ["jobs", "cancel", job])
    assert aside.stdout == f"job {job}: put aside, it was failed; `rlfleet jobs requeue {job}` opens it again\n"


# Removes its endpoints at once when it is told to stop, and holds the lock for as long as its last child takes.
FLEET = """
import os, signal, subprocess, sys
from fleet.home import Endpoints, Home
home = Home.open(os.environ)
home.write_endpoints(Endpoints("postgresql://h/d", "redis://h/0"))
def stop(*_):
    home.remove_endpoints()
    subprocess.run(["sleep", sys.argv[1]], pass_fds=(home.lock,))
    (home.path / "stopped").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("up", flush=True)
signal.pause()
"""


def _held(home: Path, seconds: float) -> subprocess.Popen[bytes]:
    environ = os.environ | {"RLFLEET_HOME": str(home)}
    argv = [sys.executable, "-c", FLEET, str(seconds)]
    fleet = subprocess.Popen(argv, cwd=Path(__file__).parents[2], env=environ, stdout=subprocess.PIPE)
    assert fleet.stdout
    assert fleet.stdout.readline() == b"up\n"
    return fleet


def test_down_waits_until_nothing_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RLFLEET_HOME", str(tmp_path))
    with _held(tmp_path, 0.5) as fleet:
        down = CliRunner().invoke(cli.app, ["down"])
        assert (tmp_path / "stopped").exists()
        assert down.stdout == f"stopped (pid {fleet.pid})\n"
    nothing = CliRunner().invoke(cli.app, ["down"])
    assert isinstance(nothing.exception, StartError)
    assert "no fleet runs here" in str(nothing.exception)


@pytest.mark.slow
def test_down_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RLFLEET_HOME", str(tmp_path))
    monkeypatch.setattr(up_cli, "STOP_SECONDS", 0.2)
    with _held(tmp_path, 10) as fleet:
        down = CliRunner().invoke(cli.app, ["down"])
        assert isinstance(down.exception, StartError)
        assert f"process {fleet.pid} did not end within 0 s: wait" in str(down.exception)


def test_without_a_fleet_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DATABASE_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RLFLEET_HOME", str(tmp_path))
    refused = CliRunner().invoke(cli.app, ["windows"])
    assert isinstance(refused.exception, StartError)
    assert "rlfleet up" in str(refused.exception)
