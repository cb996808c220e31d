from __future__ import annotations

import json
import subprocess
import threading
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from environments import KNOWN, TEN
from fleet import environments_cli
from fleet.cli import app

KEYS = [
    *("name", "profile", "oracle_success", "oracle_n", "random_success", "success_threshold", "scenarios"),
    *("steps_per_second", "peak_mb", "sandbox_level", "excluded", "note", "passed"),
]


def environments(*words: str) -> Result:
    return CliRunner().invoke(app, ["environments", *words], catch_exceptions=False)


def test_all_are_listed() -> None:
    ended = environments("--json")
    found = json.loads(ended.stdout)
    rows = {row["name"]: row for row in found["environments"]}
    assert (ended.exit_code, found["schema"], found["passed"], ended.stderr) == (0, 1, True, "")
    assert set(KNOWN) <= set(rows)
    assert {name for name, row in rows.items() if row["is_of_the_ten"]} == set(TEN)
    assert rows["trading-small"]["success_threshold"] == 0.75
    assert (rows["ded"]["sandboxed"], rows["ded"]["max_turns"], rows["ded"]["max_tokens"]) == (True, 1, 4096)


def test_the_list_for_people() -> None:
    ended = environments("sat", "memory")
    table = ended.stdout.splitlines()
    assert (ended.exit_code, len([line for line in table if "sat" in line or "memory" in line])) == (0, 2)
    assert ended.stdout.count("in the sandbox") == 1


def test_an_unknown_name_is_wrong_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from fleet.cli import main

    monkeypatch.setattr("sys.argv", ["rlfleet", "environments", "chess", "--check"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, capsys.readouterr().out) == (2, "")


def test_a_check_is_one_object_of_these_keys() -> None:
    ended = environments("--check", "sat-small", "trading-small", "--count", "8", "--json")
    found = json.loads(ended.stdout)
    assert list(found) == ["schema", "passed", "environments"]
    assert (ended.exit_code, found["schema"], found["passed"]) == (0, 1, True)
    assert [list(row) for row in found["environments"]] == [KEYS, KEYS]
    small, trading = found["environments"]
    assert (small["name"], small["profile"], trading["name"]) == ("sat-small", "small", "trading-small")
    assert (small["oracle_success"], small["oracle_n"], small["sandbox_level"]) == (1.0, 8, None)
    assert small["random_success"] < 0.5
    assert small["steps_per_second"] > 0 < small["peak_mb"]


def test_what_cannot_be_played_is_a_row_and_status_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RLFLEET_WEBSHOP_DATA", raising=False)
    ended = environments("--check", "webshop-original", "sat-small", "--count", "3", "--json")
    found = json.loads(ended.stdout)
    missing, small = found["environments"]
    assert (ended.exit_code, found["passed"], missing["passed"], small["passed"]) == (1, False, False, True)
    assert list(missing) == KEYS
    assert "RLFLEET_WEBSHOP_DATA" in missing["note"]
    assert (missing["oracle_success"], missing["oracle_n"], missing["success_threshold"]) == (None, 0, 1.0)


def test_what_takes_too_long_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments_cli, "CHECK_SECONDS", 0.001)
    ended = environments("--check", "sat-small", "--json")
    assert ended.exit_code == 1
    assert json.loads(ended.stdout)["environments"][0]["note"] == "not through after 0.001 s"


def _told(name: str, **but: Any) -> dict[str, Any]:
    agent = {"solved": 2, "episodes": 4}
    whole = dict.fromkeys(KEYS) | {"name": name, "profile": "p", "oracle_n": 4, "note": "", "passed": True}
    costs = {"steps_per_second": 1234.5, "peak_mb": 31.2, "excluded": False}
    return whole | costs | {"oracle": agent, "random": agent, "idle": agent} | but


def test_one_that_fails_fails_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"sat": _told("sat"), "ded": _told("ded", passed=False, note="odd", scenarios=7)}
    monkeypatch.setattr(environments_cli, "_check", lambda name, count: rows[name])
    ended = environments("--check", "sat", "ded")
    sat, ded = (line for line in ended.stdout.splitlines() if "2 of 4" in line)
    assert ended.exit_code == 1
    assert "endless" in sat
    assert "1,234" in sat
    assert "passed" in sat
    assert "failed; odd" in ded
    assert " 7 " in ded
    assert list(json.loads(environments("--check", "sat", "ded", "--json").stdout)["environments"][1]) == KEYS


def test_rows_are_in_the_order_asked_for_and_made_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits until the other has begun."""
    both = threading.Barrier(2, timeout=20)

    def check(name: str, count: int) -> dict[str, Any]:
        both.wait()
        return _told(name)

    monkeypatch.setattr(environments_cli, "_check", check)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    found = json.loads(environments("--check", "trading", "sat", "--json").stdout)
    assert [row["name"] for row in found["environments"]] == ["trading", "sat"]


def test_the_ten_are_checked_where_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments_cli, "_check", lambda name, count: _told(name, oracle_n=count))
    found = json.loads(environments("--check", "--json").stdout)
    assert [row["name"] for row in found["environments"]] == [*TEN, "sat-compatible"]
    assert {row["oracle_n"] for row in found["environments"]} == {50}


def test_what_an_environment_prints_is_no_part_of_the_object(monkeypatch: pytest.MonkeyPatch) -> None:
    words = subprocess.CompletedProcess([], 1, stdout="half an obj", stderr="Traceback\nValueError: odd\n")
    monkeypatch.setattr("subprocess.run", lambda *_, **__: words)
    found = json.loads(environments("--check", "sat", "--json").stdout)
    assert (found["passed"], found["environments"][0]["note"]) == (False, "ValueError: odd")
