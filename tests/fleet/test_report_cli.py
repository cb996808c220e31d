"""``rlfleet report`` as people and programs call it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from db import lines
from db.session import transaction
from fleet import cli
from rl.errors import InvalidInput, StartError
from tests.conftest_database import *  # noqa: F403
from tests.conftest_database import empty
from tests.db import chains
from tests.rl.published_run import published


def call(*words: str) -> Result:
    return CliRunner().invoke(cli.app, ["report", *words])


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "obsidian.json"
    path.write_text(json.dumps(published()))
    return str(path)


@pytest.fixture
def version(database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A version of a line with two checkpoints, one of them judged."""
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    with transaction() as session:
        empty(session)
        made = chains.add_version(session, chains.add_line(session, "shop"), (2, 4))
        chains.judge(session, made, 4, {"go": (17, 20)})
        assert lines.prefix_of(lines.named(session, "shop")) == "shop"
        return made.name


def test_a_published_table_needs_no_fleet(table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    done = call("--from", table, "--html", str(tmp_path / "r.html"), "--png", str(tmp_path / "r.png"))
    assert done.exit_code == 0, done.output
    assert "Pick: 21; tie set: 13, 21. the data do not tell steps 13, 21 apart" in done.stdout
    assert "COLLAPSE at 26: training score 0.4311 is 77.5% of its highest so far" in done.stdout
    assert "update 0.125 cannot be, of 6: it must be 2/6" in done.stdout
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")


def test_json_is_one_object_and_nothing_else(table: str) -> None:
    done = call("--from", table, "--json")
    said = json.loads(done.stdout)
    assert (said["schema"], said["pick"], said["tie_set"], said["kind"]) == (1, 21, [13, 21], "table")
    assert said["points"][0]["types"]["retrieval"] == {
        "k": 9,
        "n": 16,
        "low": pytest.approx(0.4055, abs=1e-4),
        "high": pytest.approx(0.7027, abs=1e-4),
    }


def test_a_version_by_its_short_name(version: str, tmp_path: Path) -> None:
    done = call("v1.0.0", "--line", "shop", "--json", "--html", str(tmp_path / "r.html"))
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["title"] == f"version {version}: ready"
    assert [(one["step"], one["coverage"]) for one in said["points"]] == [(2, 0.0), (4, 1.0)]
    assert "not ranked: not evaluated" in (tmp_path / "r.html").read_text()


def test_nothing_to_rank_is_exit_code_1(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    path.write_text(json.dumps({"rows": [{"step": 0, "types": {"a": None}}]}))
    done = call("--from", str(path))
    assert done.exit_code == 1
    assert "Nothing can be ranked." in done.stdout


@pytest.mark.parametrize("words", [(), ("practice", "--from", "file.json")])
def test_one_of_a_name_and_a_file_is_needed(words: tuple[str, ...]) -> None:
    done = call(*words)
    assert isinstance(done.exception, InvalidInput)
    assert "name a run or a version, or give --from FILE" in str(done.exception)


def test_a_file_that_cannot_be_written_is_named(table: str, tmp_path: Path) -> None:
    for option in ("html", "png"):
        file = str(tmp_path / "none" / "r")
        done = call("--from", table, f"--{option}", file)
        assert isinstance(done.exception, InvalidInput)
        assert (done.exception.field, done.exception.value) == (option, file)
        assert done.exception.remedy == "it cannot be written: No such file or directory"


def test_without_matplotlib_it_says_what_to_install(
    table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = call("--from", table, "--png", str(tmp_path / "r.png"))
    assert isinstance(done.exception, StartError)
    assert "install rlfleet[fleet]" in str(done.exception)
    assert call("--from", table).exit_code == 0, "the table in a terminal needs none"
