"""Secrets that cannot be read stop commands that would need them, and not those that look and those that end."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from db import workers
from fleet import cli
from rl.errors import InvalidSettings
from tests.conftest_database import *  # noqa: F403
from tests.fleet.test_cli import _held

UNMOUNTED = "the file cannot be read"
AMBIGUOUS = "RLFLEET_ENGINE_KEY and RLFLEET_ENGINE_KEY_FILE are both set"


@pytest.fixture(autouse=True)
def _damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One secret is not mounted, and one is there twice."""
    for name in ("DATABASE_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RLFLEET_HOME", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL_FILE", "/nowhere")
    (tmp_path / "key").write_text("hush\n")
    monkeypatch.setenv("RLFLEET_ENGINE_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("RLFLEET_ENGINE_KEY", "hush")


def test_down_ends_the_fleet(tmp_path: Path) -> None:
    with _held(tmp_path, 0.5) as fleet:
        down = CliRunner().invoke(cli.app, ["down"])
        assert down.stdout == f"stopped (pid {fleet.pid})\n"
        assert (tmp_path / "stopped").exists()
    assert UNMOUNTED in down.stderr
    assert AMBIGUOUS in down.stderr
    assert "hush" not in down.output


def test_status_says_what_it_can(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli.app, ["status", "--json"])
    assert json.loads(done.stdout)["status"] == "stopped"
    assert UNMOUNTED in done.stderr
    assert "hush" not in done.output


def test_status_looks_where_a_file_says(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    (tmp_path / "url").write_text(f"{database}\n")
    monkeypatch.setenv("DATABASE_URL_FILE", str(tmp_path / "url"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", database)
        workers.announce("score@a", ["score"], 1, "", 7)
    os.environ.pop("DATABASE_URL", None)
    done = CliRunner().invoke(cli.app, ["status", "--json"])
    assert "score@a" in {one["name"] for one in json.loads(done.stdout)["processes"]}
    assert AMBIGUOUS in done.stderr


@pytest.mark.parametrize("words", [["env"], ["jobs"], ["up"], ["token", "list"]])
def test_what_needs_them_is_refused(words: list[str]) -> None:
    done = CliRunner().invoke(cli.app, words)
    assert isinstance(done.exception, InvalidSettings)
    assert UNMOUNTED in str(done.exception) or AMBIGUOUS in str(done.exception)
