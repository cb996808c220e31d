from __future__ import annotations

import copy
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rl.config import GrpoTrain
from rl.objectives import Ppo
from rl.pipeline import Model, Pipeline, Starter, is_pipeline

LEAST: dict[str, Any] = {
    "name": "crafts",
    "seed": 5,
    "environment": "textcraft-small",
    "model": {"starter": {}},
    "demonstrations": {"scenarios": 1000, "first_seed": 50},
    "sft": {"steps": 10, "optimizer": {"learning_rate": 1e-3}},
    "rl": {
        "rounds": 3,
        "rollout": {"scenarios": 4, "episodes": 2},
        "train": {"optimizer": {"learning_rate": 1e-4}},
    },
    "validation": {"count": 100},
    "held_out": {"count": 300},
}


def _with(**tables: Any) -> dict[str, Any]:
    values = copy.deepcopy(LEAST)
    for path, value in tables.items():
        *parents, name = path.split("__")
        table = values
        for parent in parents:
            table = table.setdefault(parent, {})
        table[name] = value
    return values


def test_what_is_said_once_holds_in_every_table() -> None:
    config = Pipeline.model_validate(LEAST)
    named = {config.demonstrations.environment, config.rl.rollout.environment}
    assert named | {config.validation.environment, config.held_out.environment} == {"textcraft-small"}
    assert (config.validation.split, config.held_out.split) == ("validation", "held_out")
    assert (config.sft.seed, config.rl.train.seed) == (5, 5)
    assert isinstance(config.rl.train, GrpoTrain)
    assert config.release.strategy == "immediate"


def test_a_table_may_say_otherwise() -> None:
    values = _with(
        held_out__environment="sat-small",
        rl__rollout__environment="sat-small+textcraft-small",
        rl__train__seed=9,
        rl__train__objective="ppo",
        release={"strategy": "gradual", "min_scenarios": 150},
    )
    config = Pipeline.model_validate(values)
    assert config.held_out.environment == "sat-small"
    assert config.rl.rollout.environment == "sat-small+textcraft-small"
    assert (config.sft.seed, config.rl.train.seed) == (5, 9)
    assert isinstance(config.rl.train, Ppo)
    assert (config.release.strategy, config.release.min_scenarios) == ("gradual", 150)
    assert Pipeline.model_validate(_with(release={"min_scenarios": 150})).release.strategy == "immediate"


@pytest.mark.parametrize(("table", "split"), [("held_out", "validation"), ("validation", "held_out")])
def test_scenarios_to_choose_on_and_to_decide_on_are_apart(table: str, split: str) -> None:
    with pytest.raises(ValidationError, match=rf"{table}\.split = '{split}': \[{table}\] plays that split alone"):
        Pipeline.model_validate(_with(**{f"{table}__split": split}))


def test_rounds_begin_behind_the_demonstrations() -> None:
    assert Pipeline.model_validate(LEAST).rl.rollout.first_seed == 1050
    assert Pipeline.model_validate(_with(rl__rollout__first_seed=0)).rl.rollout.first_seed == 0


@pytest.mark.parametrize(
    ("epochs", "scenarios", "batch", "steps"),
    [(3, 1000, 16, 188), (1, 32, 16, 2), (0.5, 100, 32, 2), (2, 3120, 16, 390), (3, 1000, None, 94)],
)
def test_epochs_become_steps(epochs: float, scenarios: int, batch: int | None, steps: int) -> None:
    sft = {"epochs": epochs, "optimizer": {"learning_rate": 1e-3}} | ({"batch_episodes": batch} if batch else {})
    config = Pipeline.model_validate(_with(sft=sft, demonstrations__scenarios=scenarios))
    assert config.sft.steps == steps


@given(st.floats(0.01, 20), st.integers(1, 5000), st.integers(1, 64))
def test_so_many_epochs_are_seen_and_less_than_a_batch_more(epochs: float, scenarios: int, batch: int) -> None:
    sft = {"epochs": epochs, "batch_episodes": batch, "optimizer": {"learning_rate": 1e-3}}
    steps = Pipeline.model_validate(_with(sft=sft, demonstrations__scenarios=scenarios)).sft.steps
    assert epochs * scenarios <= steps * batch * (1 + 1e-9)
    assert (steps - 1) * batch < epochs * scenarios


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"sft__epochs": 2}, r"sft\.epochs = 2: \[sft\] has steps too"),
        ({"sft": {"epochs": 0, "optimizer": {"learning_rate": 1}}}, r"sft\.epochs = 0: give a number above 0"),
        ({"sft": {"epochs": True, "optimizer": {"learning_rate": 1}}}, "give a number above 0"),
        ({"sft": {"epochs": math.inf, "optimizer": {"learning_rate": 1}}}, "give a number above 0"),
        ({"sft": {"optimizer": {"learning_rate": 1}}}, "steps"),
        ({"sft__objective": "grpo"}, "sft"),
        ({"model": {}}, "set base to a folder or a hub id"),
        ({"model": {"base": "a/b", "starter": {}}}, "one of the two"),
        ({"model__starter__width": 100}, "multiple of 32"),
        ({"model__starter__depth": 3}, "Extra inputs"),
        ({"rollout": {}}, "Extra inputs"),
        ({"rl__epochs": 3}, "Extra inputs"),
        ({"rl__rollout__rounds": 3}, "Extra inputs"),
        ({"demonstrations__count": 3}, "Extra inputs"),
        ({"name": "Crafts"}, "pattern"),
        ({"rl__train__objective": "sft"}, "objective"),
        ({"sft__clip_low": 0.1}, "has no effect for sft"),
        ({"demonstrations": 3}, "demonstrations"),
        ({"held_out": {"count": 30, "samples": 4, "temperature": 1}}, r"held_out\.samples = 4: the report counts scen"),
        ({"rl": None}, "rl"),
    ],
)
def test_what_cannot_be_meant_is_refused(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Pipeline.model_validate(_with(**changed))


def test_both_tables_of_a_model() -> None:
    assert Pipeline.model_validate(_with(model={"base": "Qwen/Qwen3-0.6B"})).model == Model(base="Qwen/Qwen3-0.6B")
    starter = {"vocabulary": 1024, "context_length": 4096, "layers": 4, "width": 256}
    assert Pipeline.model_validate(_with(model={"starter": starter})).model.starter == Starter(**starter)
    assert Starter() == Starter(vocabulary=512, context_length=2048, layers=3, width=128)


@pytest.mark.parametrize("strategy", ["gradual", "immediate"])
def test_a_stored_pipeline_is_read_back(strategy: str) -> None:
    config = Pipeline.model_validate(_with(early_stop={"patience": 3}, release={"strategy": strategy}))
    assert config.release.strategy == strategy
    assert Pipeline.model_validate(config.model_dump(mode="json")) == config
    assert Pipeline.model_validate_json(config.model_dump_json()) == config
    assert config.early_stop is not None
    assert config.early_stop.then == "finish"


def test_the_line_clones_and_the_run_goes_on() -> None:
    config = Pipeline.model_validate(_with(early_stop={"then": "pause"}))
    line, run = config.line("/srv/base", "jsonl:///srv/log"), config.run()
    assert (line.base_model, line.source, line.version_prefix) == ("/srv/base", "jsonl:///srv/log", "crafts")
    assert (line.train, line.validation, line.automatic) == (config.sft, config.validation, False)
    assert (run.name, run.rounds, run.rollout, run.train) == ("crafts", 3, config.rl.rollout, config.rl.train)
    assert (run.validation, run.held_out) == (config.validation, config.held_out)
    assert run.early_stop is not None
    assert run.early_stop.then == "pause"


def test_differences_are_named_by_their_place() -> None:
    before = Pipeline.model_validate(LEAST)
    after = Pipeline.model_validate(_with(sft__steps=20, model={"base": "a/b"}))
    assert list(before.differences(before)) == []
    found = list(before.differences(after))
    assert "sft.steps = 20, and not 10" in found
    assert "model.base = 'a/b', and not None" in found


@pytest.mark.parametrize(
    ("values", "is_one"),
    [(LEAST, True), ({"model": {}}, True), ({"demonstrations": {}}, True), ({"name": "x", "rollout": {}}, False)],
)
def test_a_file_is_told_by_its_tables(values: dict[str, Any], is_one: bool) -> None:
    assert is_pipeline(values) is is_one
