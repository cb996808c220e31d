"""``rlfleet select`` on files, as a process of its own."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fleet import cli
from rl.errors import InvalidInput
from tests.rl.published_run import published

ROOT = Path(__file__).parents[2]
KEYS = {"schema", "pick", "tie_set", "vetoed", "lint", "unresolved", "early_stop", "alarms", "posterior"}


def select(*options: str, said: str = "") -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    env |= {"PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    argv = [sys.executable, "-m", "fleet", "select", *options]
    return subprocess.run(argv, cwd=ROOT, env=env, input=said, capture_output=True, text=True, check=False, timeout=120)


def write(path: Path, data: Any) -> str:
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return str(path)


def as_csv() -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["step", "type", "n", "rate", "overall", "training_score"])
    for row in published()["rows"]:
        for name, cell in row["types"].items():
            writer.writerow([row["step"], name, cell["n"], cell["rate"], row["overall"], row["training_score"]])
    return text.getvalue()


def test_the_published_run_as_json_and_as_csv(tmp_path: Path) -> None:
    done = select(write(tmp_path / "run.json", published()), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert said.keys() >= KEYS
    assert (said["schema"], said["pick"], said["tie_set"], said["early_stop"]) == (1, 21, [13, 21], 26)
    assert said["lint"] == [{"step": s, "type": "update", "published": 0.125, "k": 2, "n": 6} for s in (13, 26)]
    assert (said["vetoed"], said["unresolved"]) == ([], [])
    assert [one["step"] for one in said["alarms"] if one["name"] == "COLLAPSE"] == [26, 38]
    assert said["posterior"]["21"] == pytest.approx(23 / 35)
    path = write(tmp_path / "run.csv", as_csv())
    assert CliRunner().invoke(cli.app, ["select", path, "--json"]).stdout == done.stdout
    for text in (as_csv(), json.dumps(published())):
        assert CliRunner().invoke(cli.app, ["select", "-", "--json"], input=text).stdout == done.stdout


def test_the_table_for_people(tmp_path: Path) -> None:
    done = select(write(tmp_path / "run.json", published()))
    assert (done.returncode, done.stderr) == (0, "")
    assert "paired scenarios" not in done.stdout
    assert "paired scenarios" in select(str(tmp_path / "run.json"), "--power").stdout
    for words in (
        "13* ",
        "21* ",
        "0.5530-0.7573",
        "0.9297",
        "step 13: update 0.125 cannot be, of 6: it must be 2/6",
        "COLLAPSE at step 26: training score 0.4311 is 77.5%",
        "early stop at step 26",
        "233 would show 0.1",
        "pick: step 21; the data do not tell steps 13, 21 apart",
    ):
        assert words in done.stdout


def test_weighted_types(tmp_path: Path) -> None:
    path = write(tmp_path / "run.json", published())
    found = CliRunner().invoke(cli.app, ["select", path, "--json", "--weights", "clarification=1,retrieval=0"])
    said = json.loads(found.stdout)
    assert (said["pick"], said["weights"]) == (21, {"clarification": 1.0, "retrieval": 0.0})
    assert said["posterior"]["13"] == pytest.approx(6 / 13)
    assert said["tie_set"] == [0, 13, 21, 26, 38]  # 3/11 against 5/11 is 0.79984
    for weights in ("clarification", "clarification=x", "clarification=1,clarification=2", "=1", "other=1"):
        refused = CliRunner().invoke(cli.app, ["select", path, "--weights", weights])
        assert isinstance(refused.exception, InvalidInput)


def test_no_improvement_and_no_data(tmp_path: Path) -> None:
    base = {"step": 0, "types": {"a": {"k": 8, "n": 10}}}
    worse = {"step": 1, "types": {"a": {"k": 2, "n": 10}}}
    done = select(write(tmp_path / "none.json", {"rows": [base, worse]}), "--json")
    assert (done.returncode, json.loads(done.stdout)["pick"]) == (0, 0)
    assert json.loads(done.stdout)["vetoed"] == [{"step": 1, "type": "a", "p": pytest.approx(0.9955, abs=1e-4)}]
    for rows in ([], [{"step": 0, "types": {"a": {"rate": 0.33, "n": 10}}}]):
        path = write(tmp_path / "empty.json", {"rows": rows})
        found = CliRunner().invoke(cli.app, ["select", path, "--json"])
        assert (found.exit_code, json.loads(found.stdout)["pick"]) == (1, None)
        assert "pick: none; there is nothing to rank" in CliRunner().invoke(cli.app, ["select", path]).stdout


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.json", '{"rows":\n [secret]}', "a.json': is not JSON at line 2, column 3: Expecting value"),
        ("a.json", '{"rows": [], "rows": []}', "rows = []: the same object has this key already"),
        ("a.json", '{"rows": [{"step": 0, "types": {"a": {"k": 3, "n": 2}}}]}', "rows[0].types.a.k = 3"),
        ("a.json", '{"rows": [{"step": 0, "types": {"a": {"rate": NaN, "n": 2}}}]}', "rows[0].types.a.rate = nan"),
        ("a.json", "[" * 100_000, "is not JSON"),
        ("a.csv", "step,type\n0,a,1\n", "give as many cells as there are columns"),
        ("a.txt", "nonsense", "name a column step"),
        ("a.json", " \n", "the file is empty"),
        ("a.csv", "", "the file is empty"),
        ("a.csv", "step,k,n\n0,1,2\n", "add a column type".capitalize()),
        ("a.csv", "step,type,k,n\nx,a,1,2\n", "line 2: step = 'x': give a whole number, 0 or more"),
        ("a.csv", "step,a\n1.5,1/2\n", "line 2: step = '1.5': give a whole number, 0 or more"),
        ("a.json", '{"rows": [{"step": "x", "types": {}}]}', "rows[0].step = 'x': give a whole number"),
    ],
)
def test_wrong_input_is_named(tmp_path: Path, name: str, text: str, words: str) -> None:
    found = CliRunner().invoke(cli.app, ["select", write(tmp_path / name, text), "--json"])
    assert isinstance(found.exception, InvalidInput)
    assert words in str(found.exception)
    assert "secret" not in str(found.exception)
    assert found.stdout == ""


def test_the_page_of_the_documentation_works(tmp_path: Path) -> None:
    page = (ROOT / "docs/selection.md").read_text()
    (results,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    (weights,) = re.findall(r"--weights (\S+)", page.split("```")[1])
    found = CliRunner().invoke(cli.app, ["select", write(tmp_path / "a.json", results), "--json", "--weights", weights])
    assert (found.exit_code, json.loads(found.stdout)["pick"]) == (0, 13)


def test_a_file_that_is_not_there() -> None:
    done = select("/nonexistent.json", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "name a file that can be read: No such file" in done.stderr


def test_how_many_scenarios_a_difference_needs_can_be_asked_alone(tmp_path: Path) -> None:
    alone = CliRunner().invoke(cli.app, ["select", "--power"])
    assert (alone.exit_code, "paired scenarios" in alone.stdout) == (0, True)
    said = json.loads(CliRunner().invoke(cli.app, ["select", "--power", "--json"]).stdout)
    assert said.keys() == {"schema", "power"}
    assert {"difference": 0.1, "discordance": 0.3, "scenarios": 233} in said["power"]
    path = write(tmp_path / "run.json", published())
    beside = json.loads(CliRunner().invoke(cli.app, ["select", path, "--power", "--json"]).stdout)
    assert (beside["pick"], beside["power"]) == (21, said["power"])
    assert "power" not in json.loads(CliRunner().invoke(cli.app, ["select", path, "--json"]).stdout)
    nothing = CliRunner().invoke(cli.app, ["select"])
    assert isinstance(nothing.exception, InvalidInput)
    assert nothing.exception.field == "file"


def test_the_reason_of_a_weighted_choice_says_the_weighted_probability(tmp_path: Path) -> None:
    rows = [
        {"step": 0, "types": {"a": {"k": 10, "n": 30}, "b": {"k": 10, "n": 30}}},
        {"step": 5, "types": {"a": {"k": 16, "n": 30}, "b": {"k": 28, "n": 30}}},
    ]
    path = write(tmp_path / "run.json", {"rows": rows})
    said = json.loads(CliRunner().invoke(cli.app, ["select", path, "--weights", "a=1", "--json"]).stdout)
    better = next(one["best_better"] for one in said["rows"] if one["step"] == 0)
    assert 0.9 < better < 0.96
    assert said["reason"].endswith(f"(P {better:.3f} or more by the weighted rates)")
