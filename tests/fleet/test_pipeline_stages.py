"""The stages of a pipeline with a fleet that is a stand-in, or none; what they bring is in test_pipeline_loop."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

import pytest
from rich.console import Console

from db import engines, lines
from db.overview import Facts
from db.session import transaction
from fleet.pipeline.bars import Bars
from fleet.pipeline.course import Course
from fleet.pipeline.folder import Folder
from fleet.pipeline.place import Place
from fleet.pipeline.run import run
from fleet.pipeline.stages import STAGES, Stages
from rl.config import LineConfig
from rl.errors import EngineUnavailable, InvalidInput, StartError
from rl.pipeline import Pipeline
from tests.conftest_database import *  # noqa: F403
from tests.conftest_database import empty
from tests.served import served

RL = {
    "rounds": 1,
    "rollout": {"scenarios": 2, "episodes": 2},
    "train": {"optimizer": {"learning_rate": 2e-3}},
}


def _config(**changed: Any) -> Pipeline:
    values: dict[str, Any] = {
        "name": "little",
        "environment": "sat-small",
        "model": {"starter": {}},
        "demonstrations": {"scenarios": 20},
        "sft": {"steps": 5, "optimizer": {"learning_rate": 3e-3}},
        "rl": RL,
        "validation": {"count": 10},
        "held_out": {"count": 6},
        "release": {"min_scenarios": 4},
    }
    return Pipeline.model_validate(values | changed)


@dataclass
class Doing:
    """Stages of a pipeline in a folder, with what was asked of its course."""

    stages: Stages
    asked: list[Any] = field(default_factory=list)
    said: StringIO = field(default_factory=StringIO)


@pytest.fixture
def doing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Doing:
    return _doing(_config(), tmp_path, monkeypatch)


def _doing(config: Pipeline, home: Path, monkeypatch: pytest.MonkeyPatch) -> Doing:
    asked: list[Any] = []
    said = StringIO()
    place = Place(home, home / "logs", {}, lambda: None, lambda: asked.append("engine"))
    bars = Bars(Console(file=said, width=200), config.rl.rounds)
    course = Course(place, config.name, bars, "again")
    folder = Folder(home / "pipelines" / config.name)
    folder.make(config)
    monkeypatch.setattr(course, "clone", lambda line, hour: asked.append(line))
    monkeypatch.setattr(course, "python", lambda module, *words, **_: asked.append((module, words)))
    return Doing(Stages(config, folder, course, bars), asked, said)


def test_a_log_that_is_there_is_not_made_again(doing: Doing) -> None:
    doing.stages.run("demonstrate")
    ((module, words),) = doing.asked
    assert module == "environments.demonstrate"
    assert words[:6] == ("--environment", "sat-small", "--scenarios", "20", "--first-seed", "0")
    doing.stages.folder.demonstrations.write_text("{}\n")
    doing.stages.run("demonstrate")
    assert len(doing.asked) == 1
    assert list(doing.stages.folder.seconds) == ["demonstrate"]


def test_a_starter_is_made_of_the_demonstrations(doing: Doing) -> None:
    with pytest.raises(StartError, match="stage demonstrate of little is not done yet"):
        doing.stages.run("model")
    row = {"calls": [{"messages": [{"content": "x1 or x2"}], "response": {"content": "x1=1"}}]}
    doing.stages.folder.demonstrations.write_text(json.dumps(row) + "\n")
    doing.stages.run("model")
    ((module, words),) = doing.asked
    assert module == "gpu.starter"
    assert dict(zip(words[::2], words[1::2], strict=True)) == {
        "--texts": str(doing.stages.folder.path / "texts.jsonl"),
        "--out": str(doing.stages.folder.starter),
        "--seed": "0",
        "--vocabulary": "512",
        "--context-length": "2048",
        "--layers": "3",
        "--width": "128",
    }
    assert (doing.stages.folder.path / "texts.jsonl").read_text().splitlines() == ['"x1 or x2"', '"x1=1"']


def test_sft_gives_the_line_its_log(doing: Doing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stages, "facts", lambda self: None)
    with pytest.raises(StartError, match="stage demonstrate"):
        doing.stages.run("sft")
    doing.stages.folder.demonstrations.write_text("{}\n")
    doing.stages.folder.starter.mkdir()
    doing.stages.run("sft")
    waited, line = doing.asked
    assert waited == "engine"
    assert line == doing.stages.config.line(
        str(doing.stages.folder.starter), f"jsonl://{doing.stages.folder.demonstrations}"
    )


@pytest.mark.usefixtures("database")
def test_rounds_need_a_version(doing: Doing) -> None:
    with transaction() as session:
        empty(session)
    with pytest.raises(StartError, match="stage sft of little is not done yet"):
        doing.stages.run("rl")
    with transaction() as session:
        lines.put(session, "little", LineConfig(base_model="/srv/base"))
    with pytest.raises(StartError, match="stage sft of little is not done yet"):
        doing.stages.run("rl")


def test_a_run_that_waits_says_how_to_go_on(doing: Doing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stages, "facts", lambda self: Facts("little", stable="little-v1.0.0", run_state="paused"))
    monkeypatch.setattr(doing.stages.course, "practise", lambda config: Facts("little", run_state="paused"))
    with pytest.raises(StartError, match=r"run little is paused.*`rlfleet resume little`.*`rlfleet finish little`"):
        doing.stages.run("rl")
    monkeypatch.setattr(doing.stages.course, "practise", lambda config: Facts("little", run_state="finished"))
    doing.stages.run("rl")
    monkeypatch.setattr(doing.stages.course, "practise", lambda config: Facts("little", run_state="stopped"))
    monkeypatch.setattr(Stages, "_reason", lambda self: "no signal for 4 rounds")
    with pytest.raises(StartError, match="run little is stopped: no signal for 4 rounds; --fresh starts anew"):
        doing.stages.run("rl")


def test_what_is_done_waits_for_nothing_and_takes_no_time(doing: Doing, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = Facts("little", stable="little-v1.0.3", run_state="finished")
    monkeypatch.setattr(Stages, "facts", lambda self: facts)
    monkeypatch.setattr(doing.stages.course, "refuse_another", doing.asked.append)
    doing.stages.folder.starter.mkdir()
    doing.stages.folder.demonstrations.touch()
    doing.stages.folder.write("base", {})
    for name in ("demonstrate", "model", "base", "sft", "rl"):
        doing.stages.run(name)
    assert doing.asked == [doing.stages._line()]
    assert doing.stages.folder.seconds == {}
    assert doing.said.getvalue().count("done before") == 5
    facts.run_state = "running"
    monkeypatch.setattr(doing.stages.course, "practise", lambda config: Facts("little", run_state="finished"))
    doing.stages.run("rl")
    assert (doing.asked[1:], list(doing.stages.folder.seconds)) == (["engine"], ["start", "rl"])


class Engine(BaseHTTPRequestHandler):
    """Loads any folder but one, and says that everything is true."""

    loaded: ClassVar[list[dict[str, str]]] = []
    keys: ClassVar[set[str]] = set()
    refusal: ClassVar[dict[str, Any] | None] = None
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.keys.add(self.headers.get("Authorization") or "")
        status = 200
        if self.path == "/v1/load_lora_adapter":
            self.loaded.append(body)
            status = 400 if "broken" in body["lora_path"] else 200
        elif self.refusal is not None:
            status = 400
        told = {"choices": [{"message": {"role": "assistant", "content": "x1=1, x2=1, x3=1"}}]}
        said = json.dumps({"error": self.refusal} if self.refusal else told).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def engine(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("RLFLEET_ENGINE_KEY", "secret")
    Engine.loaded, Engine.keys, Engine.refusal = [], set(), None
    with served(Engine) as url:
        with transaction() as session:
            empty(session)
            engines.announce(session, "cpu@here", url, "cpu", 1)
        yield url


@pytest.mark.usefixtures("engine")
def test_the_base_model_plays_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "model"
    model.mkdir()
    doing = _doing(_config(model={"base": str(model)}), tmp_path, monkeypatch)
    doing.stages.run("base")
    found = doing.stages.folder.read("base")
    assert (found["model"], found["n"], found["turns"], found["failed"]) == (str(model), 6, 1.0, {})
    assert sum(one["k"] for one in found["types"].values()) == found["k"]
    (loaded,) = Engine.loaded
    assert loaded["lora_path"] == str(model)
    assert Engine.keys == {"Bearer secret"}
    doing.stages.run("base")
    assert len(Engine.loaded) == 1


@pytest.mark.usefixtures("engine")
def test_an_engine_that_cannot_load_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken").mkdir()
    doing = _doing(_config(model={"base": str(tmp_path / "broken")}), tmp_path, monkeypatch)
    with pytest.raises(EngineUnavailable, match=r"cannot load .*broken"):
        doing.stages.run("base")
    assert doing.stages.folder.read("base") is None


@pytest.mark.usefixtures("engine")
def test_a_base_model_with_too_few_verdicts_is_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    doing = _doing(_config(model={"base": str(tmp_path / "model")}), tmp_path, monkeypatch)
    Engine.refusal = {"message": "not this one"}
    with pytest.raises(
        StartError, match=r"has 0 of 6 verdicts, and 95% are needed; .*: engine: .*not this one.*; again"
    ):
        doing.stages.run("base")
    assert not doing.stages.is_done("base")
    Engine.refusal = {"message": "too long", "code": "context_length_exceeded"}
    doing.stages.run("base")
    found = doing.stages.folder.read("base")
    assert (found["k"], found["n"], found["failed"]) == (0, 6, {})


def test_demonstrations_alone_need_no_fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_HOME", str(tmp_path))
    for name in ("DATABASE_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    said = StringIO()
    found = run(_config(), Console(file=said, width=200), stage="demonstrate")
    folder = Folder(tmp_path / "pipelines" / "little")
    assert len(folder.demonstrations.read_text().splitlines()) == 20
    assert found["results"] == {"base": None, "sft": None, "rl": None}
    assert (found["done"], found["gains"]) == (False, {"sft": None, "rl": None})
    assert "little starts; everything lies in" in said.getvalue()
    assert "✓ demonstrations of the oracle" in said.getvalue()
    run(_config(), Console(file=said, width=200), stage="demonstrate", fresh=True)
    assert (tmp_path / "pipelines" / "little--2" / "demonstrations.jsonl").exists()


@pytest.mark.parametrize(
    ("changed", "stage", "says"),
    [
        ({}, "train", f"stage = 'train': stages are {', '.join(STAGES)}"),
        ({"release": {}}, None, r"held_out\.count = 6: with the 5% of verdicts"),
        ({"environment": "chess"}, None, "environment = 'chess'"),
        ({"name": "little--2"}, None, "name = 'little--2': NAME--2 is what --fresh calls the second of NAME"),
        (
            {"environment": "sciworld", "demonstrations": {"scenarios": 5000}},
            None,
            r"demonstrations\.scenarios = 5000: sciworld has \d+ train scenarios; with first_seed = 0 take fewer",
        ),
        (
            {"rl": RL | {"rollout": {"scenarios": 2, "episodes": 2, "temperature": 0.7}}},
            None,
            r"rollout\.temperature = 0\.7: train\.temperature is 1",
        ),
        ({"environment": "sciworld", "validation": {"count": 500}}, None, r"validation\.count = 500: sciworld has 221"),
    ],
)
def test_what_cannot_end_well_is_refused_before_it_starts(
    changed: dict[str, Any], stage: str | None, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLFLEET_HOME", str(tmp_path / "home"))
    with pytest.raises(InvalidInput, match=says):
        run(_config(**changed), Console(file=StringIO()), stage=stage)
    assert not (tmp_path / "home").exists()
