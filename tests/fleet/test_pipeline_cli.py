"""`rlfleet run`: a pipeline's file is told from a run's, and what is asked for reaches it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import fleet.pipeline.run
from fleet.pipeline_cli import run
from fleet.processes import ROOT
from rl.errors import InvalidInput, InvalidSettings
from rl.pipeline import Model, Pipeline

app = typer.Typer()
app.command()(run)

TRADING = ROOT / "pipelines" / "small" / "trading.toml"
RUN = """
name = "practice"
rounds = 2
train = { optimizer = { learning_rate = 1e-3 } }
rollout = { environment = "sat-small", scenarios = 4, episodes = 4 }
validation = { environment = "sat-small", split = "validation", count = 8 }
held_out = { environment = "sat-small", split = "held_out", count = 8 }
release = { min_scenarios = 8 }
"""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Pipeline, dict[str, Any]]]:
    """What was carried out; its report says that it is not done."""
    calls: list[tuple[Pipeline, dict[str, Any]]] = []

    def carried_out(config: Pipeline, _: object, **named: Any) -> dict[str, Any]:
        calls.append((config, named))
        results = dict.fromkeys(("base", "sft", "rl"))
        told = {"pipeline": config.name, "environment": config.environment, "decision": None, "results": results}
        return told | {"done": False, "trajectories": 0, "rounds": 0, "seconds": {}}

    monkeypatch.setattr(fleet.pipeline.run, "run", carried_out)
    return calls


@pytest.mark.parametrize(("words", "code"), [([], 1), (["--stage", "report"], 1), (["--stage", "sft"], 0)])
def test_the_exit_code_says_whether_it_is_done(
    asked: list[tuple[Pipeline, dict[str, Any]]], words: list[str], code: int
) -> None:
    result = CliRunner().invoke(app, [str(TRADING), *words])
    assert result.exit_code == code
    assert "│ base  │" in result.stdout
    ((config, named),) = asked
    assert (config.name, named) == ("trading", {"stage": words[1] if words else None, "fresh": False, "changes": []})


def test_stdout_is_one_object_as_json(asked: list[tuple[Pipeline, dict[str, Any]]]) -> None:
    result = CliRunner().invoke(app, [str(TRADING), "--json", "--quick", "--fresh"])
    assert json.loads(result.stdout)["pipeline"] == "quick-trading"
    assert asked[0][1]["fresh"] is True
    assert any(words.startswith("quick: rl.rounds = 2, and not ") for words in asked[0][1]["changes"])


def test_another_base_takes_the_files_place(asked: list[tuple[Pipeline, dict[str, Any]]], tmp_path: Path) -> None:
    CliRunner().invoke(app, [str(ROOT / "pipelines" / "affine.toml"), "--base", "a/b"])
    assert asked[0][0].model == Model(base="a/b")
    slow = re.sub(r"learning_rate = \S+", "learning_rate = 2e-5", TRADING.read_text())
    (tmp_path / "slow.toml").write_text(slow)
    CliRunner().invoke(app, [str(tmp_path / "slow.toml"), "--base", "a/b"])
    assert asked[1][0].model == Model(base="a/b")


def test_pretrained_weights_are_not_trained_as_fast_as_random_ones(
    asked: list[tuple[Pipeline, dict[str, Any]]],
) -> None:
    error = CliRunner().invoke(app, [str(TRADING), "--base", "a/b"]).exception
    assert isinstance(error, InvalidInput)
    assert re.match(r"base = 'a/b': sft\.optimizer\.learning_rate = 0\.\d+ is for the file's", str(error))
    assert not asked


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--base", "a/b", "--quick"], "base = 'a/b': --quick begins with a starter of its own; leave one of the two"),
        (["--base", ""], "base = '': name a folder or a hub id, such as Qwen/Qwen3-0.6B, or leave --base out"),
    ],
)
def test_a_base_that_cannot_be_begun_with_is_refused(
    asked: list[tuple[Pipeline, dict[str, Any]]], words: list[str], says: str
) -> None:
    error = CliRunner().invoke(app, [str(ROOT / "pipelines" / "affine.toml"), *words]).exception
    assert isinstance(error, InvalidInput)
    assert str(error).startswith(says)
    assert not asked


def test_a_pipeline_has_a_line_of_its_own(asked: list[tuple[Pipeline, dict[str, Any]]]) -> None:
    error = CliRunner().invoke(app, [str(TRADING), "--line", "main"]).exception
    assert isinstance(error, InvalidInput)
    assert str(error).startswith("line = 'main': trading.toml is a pipeline")
    assert not asked


def test_a_pipeline_without_its_tables_is_told_of_them(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('name = "x"\nenvironment = "sat-small"\n[rl]\nrounds = 3\n')
    error = CliRunner().invoke(app, [str(file)]).exception
    assert isinstance(error, InvalidSettings)
    assert str(error).endswith("a pipeline has [model], [demonstrations] and [sft], and this file has none of them")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--quick"], r"quick = True: config\.toml is a plain run"),
        (["--stage", "rl"], "stage = 'rl'"),
        (["--base", "a/b"], "base = 'a/b'"),
        (["--json"], "json = True"),
    ],
)
def test_a_plain_run_has_no_stages(words: list[str], says: str, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(RUN)
    error = CliRunner().invoke(app, [str(file), *words]).exception
    assert isinstance(error, InvalidInput)
    with pytest.raises(InvalidInput, match=says):
        raise error


def test_a_key_is_named_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(TRADING.read_text().replace("rounds = ", "round = "))
    error = CliRunner().invoke(app, [str(file)]).exception
    assert isinstance(error, InvalidSettings)
    assert str(error).startswith("config.toml: rl.round")
