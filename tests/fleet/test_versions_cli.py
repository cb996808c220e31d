"""What a shell asks about versions, for evaluations, retention, tokens, the audit and the schema."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from typer.testing import CliRunner

from db import tokens
from db.session import transaction
from db.tables import Version
from fleet import cli
from rl.config import TaskSet
from rl.errors import InvalidInput
from tests.conftest_database import *  # noqa: F403
from tests.conftest_database import empty
from tests.conftest_redis import broker, redis_url
from tests.db import kept
from tests.db.chains import add_line, add_version

__all__ = ["broker", "redis_url"]


@pytest.fixture
def shell(database: str, broker: Redis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CliRunner:
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("RLFLEET_HOME", str(tmp_path))
    monkeypatch.setenv("RLFLEET_ARTIFACTS", str(tmp_path / "artifacts"))
    with transaction() as session:
        empty(session)
        session.execute(kept.text("truncate rlfleet.tokens, rlfleet.audit restart identity cascade"))
    return CliRunner()


@pytest.fixture
def version(shell: CliRunner) -> str:
    with transaction() as session:
        line = add_line(session, validation=TaskSet(environment="babyai", split="validation", count=20))
        add_version(session, line, (4,))
        made: Version = add_version(session, line, (4, 8), state="candidate")
        return made.name


def _json(shell: CliRunner, *words: str) -> dict[str, Any]:
    done = shell.invoke(cli.app, [*words, "--json"])
    assert done.exit_code == 0, (done.output, done.exception)
    found: dict[str, Any] = json.loads(done.stdout)
    assert found.pop("schema") == 1
    return found


def test_versions_are_listed_newest_first_and_shown_one_by_one(shell: CliRunner, version: str) -> None:
    found = _json(shell, "versions")["versions"]
    assert [(one["name"], one["state"]) for one in found] == [
        ("babylon-agent-v1.0.1", "candidate"),
        ("babylon-agent-v1.0.0", "ready"),
    ]
    assert [one["name"] for one in _json(shell, "versions", "--state", "ready")["versions"]] == ["babylon-agent-v1.0.0"]
    one = _json(shell, "versions", "v1.0.1")
    assert one["version"]["name"] == version
    assert [(step["step"], step["is_own"]) for step in one["checkpoints"]] == [(4, False), (8, True)]
    assert (one["evaluations"], one["decisions"]) == ([], [])
    said = shell.invoke(cli.app, ["versions", version]).stdout
    assert said.startswith(f"{version} of line main: candidate: set by a test\n")
    assert "the version's own" in said
    assert version in shell.invoke(cli.app, ["versions"]).stdout
    for words in (["versions", "nope"], ["versions", "--line", "nope"], ["versions", "--state", "nope"]):
        assert isinstance(shell.invoke(cli.app, words).exception, InvalidInput)


def test_an_evaluation_is_asked_for_once(shell: CliRunner, version: str) -> None:
    words = ("evaluate", version, "--environment", "babyai", "--scenarios", "12", "--split", "validation")
    first = _json(shell, *words)
    assert first["task_set"]["count"] == 12
    ((job,), (again,)) = first["jobs"], _json(shell, *words)["jobs"]
    assert (job["kind"], job["state"], job["inputs"]) == ("evaluate", "queued", {"version": version})
    assert again["job_id"] == job["job_id"]
    (step,) = _json(shell, *words, "--step", "4")["jobs"]
    assert step["inputs"] == {"version": version, "step": 4}
    assert step["job_id"] != job["job_id"]
    (usual,) = _json(shell, "evaluate", "v1.0.1", "--scenarios", "7")["jobs"]
    assert usual["inputs"] == {"version": version}


def test_without_options_it_is_what_the_line_evaluates_on(shell: CliRunner, version: str) -> None:
    found = _json(shell, "evaluate", version)
    assert found["task_set"] is None
    assert {one["kind"] for one in found["jobs"]} == {"evaluate"}
    assert {one["inputs"]["version"] for one in found["jobs"]} == {version}
    with transaction() as session:
        bare = add_version(session, add_line(session, "bare", validation=None), state="candidate").name
    refused = shell.invoke(cli.app, ["evaluate", bare])
    assert "line bare has neither [validation] nor [held_out]: give --environment" in str(refused.exception)
    for command in ("evaluate", "versions"):
        other = shell.invoke(cli.app, [command, bare, "--line", "main"]).exception
        assert f"{bare} is a version of line bare: name that line" in str(other)
    for words in (["--scenarios", "3"], ["--split", "train"], ["--environment", "nope"]):
        assert isinstance(shell.invoke(cli.app, ["evaluate", bare, *words]).exception, InvalidInput)


def test_gc_shows_what_would_go_and_takes_it_when_told(shell: CliRunner, tmp_path: Path) -> None:
    kept.old("t1", "t2")
    stray = tmp_path / "artifacts" / "jobs" / str(kept.job("collect", "failed")) / "fence-1"
    stray.mkdir(parents=True)
    (stray / "dataset.jsonl").write_text("x" * 1000)
    _age(stray)
    kept.run("update rlfleet.jobs set finished_at = now() - interval '9 days'")
    kept.run("insert into rlfleet.alerts (name, subject, detail, created_at) values ('x', 'y', '{}', '2020-01-01')")
    first = _json(shell, "gc")
    assert first["removed"] is None
    gone = first["would_remove"]
    assert gone["rows"]["alerts"] == 1
    assert [one["trajectories"] for one in gone["windows"]] == [2]
    assert gone["folders"] == [{"path": str(stray), "bytes": 1000}]
    assert _json(shell, "gc")["would_remove"] == gone, "looking changes nothing"
    said = shell.invoke(cli.app, ["gc"]).stdout
    assert "1 rows of alerts\n" in said
    assert "`rlfleet gc --apply` removes it" in said
    removed = _json(shell, "gc", "--apply")["removed"]
    assert (removed["alerts"], removed["folders"]) == (1, 1)
    assert not stray.exists()
    assert kept.left() == set()
    after = _json(shell, "gc")["would_remove"]
    assert (after["windows"], after["folders"], after["rows"]["alerts"]) == ([], [], 0)


def _age(folder: Path) -> None:
    for path in (*folder.iterdir(), folder):
        os.utime(path, (0, 0))


def test_a_token_is_shown_once_and_all_of_it_is_in_the_audit(shell: CliRunner) -> None:
    made = _json(shell, "token", "create", "ada", "--role", "viewer", "--days", "2")
    with transaction() as session:
        holder = tokens.holder_of(session, made["token"])
    assert holder is not None
    assert (holder.name, holder.role, holder.may("operator")) == ("ada", "viewer", False)
    plain = shell.invoke(cli.app, ["token", "create", "bob"])
    assert plain.stdout.startswith("rlf_")
    assert "not shown again" in plain.stderr
    (listed, first) = _json(shell, "token", "list")["tokens"]
    assert (listed["name"], listed["role"], first["name"]) == ("bob", "operator", "ada")
    assert made["token"] not in shell.invoke(cli.app, ["token", "list"]).stdout
    assert _json(shell, "token", "revoke", "ada") == {"name": "ada", "revoked": True}
    for words in (["revoke", "ada"], ["create", "bob"], ["create", "eve", "--role", "king"]):
        assert isinstance(shell.invoke(cli.app, ["token", *words]).exception, InvalidInput)
    with transaction() as session:
        assert tokens.holder_of(session, made["token"]) is None
    entries = _json(shell, "audit")["entries"]
    assert [(one["action"], one["subject"], one["outcome"]) for one in entries] == [
        ("token revoke", "ada", "done"),
        ("token create", "bob", "done"),
        ("token create", "ada", "done"),
    ]
    assert made["token"] not in json.dumps(entries)
    older = _json(shell, "audit", "--limit", "1", "--before", str(entries[0]["entry_id"]))["entries"]
    assert older == entries[1:2]
    assert "token revoke" in shell.invoke(cli.app, ["audit"]).stdout


def test_the_schema_is_brought_forward_and_says_from_where(shell: CliRunner) -> None:
    found = _json(shell, "migrate")
    assert found["before"] == found["after"]
    assert shell.invoke(cli.app, ["migrate"]).stdout == f"at revision {found['after']} already\n"


def test_the_version_is_printed(shell: CliRunner) -> None:
    assert shell.invoke(cli.app, ["--version"]).stdout.startswith("rlfleet 0.")
    assert "--install-completion" in shell.invoke(cli.app, ["--help"]).stdout
