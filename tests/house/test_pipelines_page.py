"""docs/pipelines.md shows a file that can be used, names every key, and the stages and options that there are."""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path

from fleet.pipeline.run import check
from fleet.pipeline.stages import STAGES
from fleet.pipeline_cli import run
from fleet.play_cli import play
from rl.pipeline import Demonstrations, Model, Pipeline, Practice, Starter

PAGE = (Path(__file__).parents[2] / "docs" / "pipelines.md").read_text()


def test_the_file_on_the_page_can_be_used() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    config = Pipeline.model_validate(tomllib.loads(text))
    assert config.sft.steps == 8
    check(config)


def test_every_key_is_on_the_page() -> None:
    keys = [*Pipeline.model_fields, *(f"model.{name}" for name in Model.model_fields)]
    keys += [f"demonstrations.{name}" for name in Demonstrations.model_fields if name != "environment"]
    keys += [f"rl.{name}" for name in Practice.model_fields]
    shown = set(re.findall(r"`([a-z_.]+)`", PAGE))
    sections = {"model", "demonstrations", "rl"}
    assert set(keys) - shown - sections == set()
    assert [name for name in Starter.model_fields if f"`{name}` " not in PAGE] == []


def test_the_stages_are_those_there_are() -> None:
    assert tuple(re.findall(r"^\| `([a-z]+)` \| .* \| .* \|$", PAGE, re.MULTILINE)[: len(STAGES)]) == STAGES


def test_every_option_is_on_the_page() -> None:
    hidden = {"file", "line", "environment", "as_json"}
    named = {name.replace("_", "-") for command in (run, play) for name in inspect.signature(command).parameters}
    assert {name for name in named - {one.replace("_", "-") for one in hidden} if f"--{name}" not in PAGE} == set()
