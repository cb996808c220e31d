from __future__ import annotations

import hashlib
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from rl.config import (
    GrpoTrain,
    LineConfig,
    Optimizer,
    Release,
    Rollout,
    RunConfig,
    SftTrain,
    TaskSet,
    TrainConfig,
    digest,
)

TRAIN: TypeAdapter[TrainConfig] = TypeAdapter(TrainConfig)
OPTIMIZER = {"learning_rate": 0.001}


def run(**fields: Any) -> RunConfig:
    values = {
        "name": "demo",
        "rounds": 2,
        "rollout": Rollout(environment="babyai", scenarios=4, episodes=2),
        "train": GrpoTrain(optimizer=Optimizer(learning_rate=0.001)),
        "validation": TaskSet(environment="babyai", split="validation", count=10),
        "held_out": TaskSet(environment="babyai", split="held_out", count=10),
    } | fields
    return RunConfig(**values)


def test_the_objective_chooses_the_config() -> None:
    assert isinstance(TRAIN.validate_python({"objective": "sft", "optimizer": OPTIMIZER, "steps": 5}), SftTrain)
    assert isinstance(TRAIN.validate_python({"objective": "grpo", "optimizer": OPTIMIZER}), GrpoTrain)
    for wrong in ({"objective": "kto", "optimizer": OPTIMIZER}, {"optimizer": OPTIMIZER, "steps": 5}):
        with pytest.raises(ValidationError):
            TRAIN.validate_python(wrong)


@pytest.mark.parametrize(
    "fields",
    [
        {"learning_rat": 0.1},
        {"clip_low": 0.2},
        {"steps": 0},
        {"optimizer": {"learning_rate": 0}},
        {"optimizer": OPTIMIZER | {"momentum": 0.9}},
        {"lora": {"rank": 0}},
    ],
)
def test_an_unknown_key_or_a_value_out_of_range_is_refused(fields: dict[str, Any]) -> None:
    base = {"objective": "sft", "optimizer": OPTIMIZER, "steps": 5}
    with pytest.raises(ValidationError):
        TRAIN.validate_python(base | fields)


@pytest.mark.parametrize("name", ["", "Demo", "a/b", "a b", "-a", "demo\n", "x" * 65])
def test_a_run_has_a_name_that_a_window_can_carry(name: str) -> None:
    with pytest.raises(ValidationError):
        run(name=name)


def test_a_release_needs_more_than_a_coin_toss() -> None:
    assert (Release().min_probability, Release().min_scenarios, Release().share) == (0.95, 200, 100)
    for fields in ({"min_probability": 0.5}, {"min_probability": 1.0}, {"share": 101}, {"min_scenarios": 0}):
        with pytest.raises(ValidationError):
            Release(**fields)


NEEDED: dict[str, dict[str, int]] = {
    "sft": {"steps": 5},
    "weighted_sft": {"steps": 5},
    "dpo": {"steps": 5},
    "dr_grpo": {"max_tokens": 9},
}
ON_POLICY = ["grpo", "gspo", "ppo", "reinforce_baseline", "cispo", "dapo", "dr_grpo", "rloo"]


@pytest.mark.parametrize("objective", ["sft", "weighted_sft", "dpo", *ON_POLICY])
def test_a_line_takes_every_objective_that_is_trained(objective: str) -> None:
    config = {"objective": objective, "optimizer": OPTIMIZER} | NEEDED.get(objective, {})
    line = LineConfig.model_validate({"base_model": "/m", "train": config})
    assert line.train is not None
    assert line.train.objective == objective
    assert LineConfig.model_validate_json(line.model_dump_json()) == line
    if objective in ON_POLICY:
        assert RunConfig.model_validate(run().model_dump() | {"train": config}).train == line.train
    else:
        with pytest.raises(ValidationError, match="does not match any of the expected tags"):
            run(train=config)


def test_a_round_is_trained_on_with_grpo_unless_another_objective_is_named() -> None:
    assert run(train={"optimizer": OPTIMIZER}).train == run().train


def test_a_kl_is_from_the_base_without_its_adapter() -> None:
    config = {"objective": "grpo", "optimizer": OPTIMIZER, "lora": {}, "kl": {}}
    assert TRAIN.validate_python(config).objective == "grpo"
    with pytest.raises(ValidationError, match="lora = None: kl needs a base without its adapter"):
        TRAIN.validate_python(config | {"lora": None})


def test_nothing_is_evaluated_on_training_scenarios() -> None:
    with pytest.raises(ValidationError):
        TaskSet(environment="babyai", split="train", count=1)


def test_a_group_has_at_least_two_episodes() -> None:
    with pytest.raises(ValidationError):
        Rollout(environment="babyai", scenarios=1, episodes=1)


def test_an_unsharded_rollout_is_the_same_job_as_before_there_were_shards() -> None:
    old = {
        "environment": "babyai",
        "scenarios": 4,
        "episodes": 2,
        "first_seed": 0,
        "temperature": 1.0,
        "max_tokens": 6,
        "concurrency": 64,
    }
    assert Rollout.model_validate(old).model_dump(mode="json") == old
    more = Rollout(environment="babyai", scenarios=4, episodes=2, shard=2, stall_seconds=60)
    assert more.model_dump(mode="json") == old | {"max_tokens": None, "shard": 2, "stall_seconds": 60.0}
    assert Rollout.model_validate(old).stall_seconds == 100


def test_a_config_survives_the_job_row() -> None:
    line = LineConfig(base_model="/m", source="jsonl:///x", train=run().train, validation=run().validation)
    assert LineConfig.model_validate(line.model_dump(mode="json")) == line
    assert RunConfig.model_validate(run().model_dump(mode="json")) == run()


@pytest.mark.parametrize("prefix", ["", "агент", "a b", "a/b", "a@b", "a\n", ".a", "a" * 65])
def test_a_prefix_that_headers_and_paths_cannot_carry_is_refused(prefix: str) -> None:
    assert LineConfig(base_model="/m", version_prefix="Shop-2.a_b").version_prefix == "Shop-2.a_b"
    with pytest.raises(ValidationError, match="version_prefix"):
        LineConfig(base_model="/m", version_prefix=prefix)


def test_a_digest_is_of_the_canonical_json() -> None:
    text = b'[{"a":1,"b":[2.5,null]},"x"]'
    assert digest({"b": [2.5, None], "a": 1}, "x") == hashlib.sha256(text).hexdigest()
    assert digest() == hashlib.sha256(b"[]").hexdigest()


def test_a_digest_tells_configs_apart_and_sees_models_as_their_json() -> None:
    config = Release()
    assert digest(config) == digest(
        {"policy": "paired-margin", "min_probability": 0.95, "margin": 0.01, "min_scenarios": 200, "share": 100}
    )
    assert digest(config) != digest(Release(share=50))
    assert digest("a", "b") != digest("ab")
