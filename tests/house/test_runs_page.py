"""``docs/runs.md``: its example is a run, and it names every key and objective."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest

import environments
from environments import fitting
from rl.config import EarlyStop, OnPolicyTrain, Rollout, RunConfig, TaskSet
from rl.decidable import check_run
from rl.mix import members

PAGE = (Path(__file__).parents[2] / "docs" / "runs.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
KEYS = [name for one in (RunConfig, Rollout, TaskSet, EarlyStop) for name in one.model_fields]
OBJECTIVES = [one.model_fields["objective"].default for one in get_args(OnPolicyTrain)]


def test_the_example_is_a_run_that_names_every_table_and_only_defaults_of_the_rollout() -> None:
    (block,) = BLOCKS
    read = tomllib.loads(block)
    assert set(read) == set(RunConfig.model_fields)
    found = RunConfig.model_validate(read)
    check_run(found)
    fitting.check_run(found)
    needed = Rollout(environment="trading-small", scenarios=8, episodes=8)
    assert (found.rollout, found.early_stop) == (needed, EarlyStop())


def test_every_environment_that_is_named_exists() -> None:
    named = re.findall(r'environment = "([^"]+)"', PAGE)
    assert len(named) == 3
    assert {member.environment for one in named for member in members(one)} <= set(environments.KNOWN)


@pytest.mark.parametrize("name", sorted({*KEYS, *OBJECTIVES}))
def test_every_key_and_every_objective_is_named(name: str) -> None:
    assert f"`{name}`" in PAGE or re.search(rf"\b{re.escape(name)}\b", PAGE)


@pytest.mark.parametrize("key", sorted({*RunConfig.model_fields, *(f"rollout.{one}" for one in Rollout.model_fields)}))
def test_every_key_has_its_row(key: str) -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert any(f"`{key}`" in row.split("|")[1] for row in rows) or key == "rollout"
