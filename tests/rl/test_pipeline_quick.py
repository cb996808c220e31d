from __future__ import annotations

import pytest

from rl.decidable import check_run
from rl.pipeline import Model, Pipeline, Starter
from rl.pipeline_quick import quick, smaller

KNOWN = {"sat", "sat-small", "babyai", "babyai-goto", "sciworld", "textcraft", "textcraft-small"}


@pytest.mark.parametrize(
    ("environment", "small"),
    [
        ("sat", "sat-small"),
        ("sat-small", "sat-small"),
        ("babyai", "babyai-goto"),
        ("sciworld", "sciworld"),
        ("sat+textcraft*2+sciworld", "sat-small+textcraft-small*2+sciworld"),
        ("sat*2+sat-small", "sat-small"),
        ("sat+sat-small+babyai", "sat-small*2+babyai-goto"),
    ],
)
def test_members_have_their_small_profiles(environment: str, small: str) -> None:
    assert smaller(environment, KNOWN) == small


def test_a_large_pipeline_becomes_one_of_minutes() -> None:
    config = Pipeline.model_validate(
        {
            "name": "large",
            "environment": "sat+textcraft",
            "model": {"base": "OpenPipe/Qwen3-14B-Instruct"},
            "demonstrations": {"scenarios": 5000},
            "sft": {"epochs": 3, "lora": {"rank": 64}, "optimizer": {"learning_rate": 2e-5, "warmup_steps": 50}},
            "rl": {
                "rounds": 40,
                "rollout": {"scenarios": 64, "episodes": 8, "max_tokens": 4096},
                "train": {
                    "objective": "ppo",
                    "lora": {"rank": 64, "alpha": 128},
                    "quantization": "4bit",
                    "optimizer": {"learning_rate": 1e-6},
                },
            },
            "validation": {"count": 400, "samples": 4, "temperature": 0.7},
            "held_out": {"count": 800},
        }
    )
    small = quick(config, KNOWN)
    assert (small.name, small.environment) == ("quick-large", "sat-small+textcraft-small")
    assert small.model == Model(starter=Starter(context_length=4096))
    assert {small.demonstrations.environment, small.rl.rollout.environment} == {"sat-small+textcraft-small"}
    assert (small.demonstrations.scenarios, small.sft.steps, small.rl.rounds) == (240, 60, 2)
    assert small.sft.lora is None
    assert (small.rl.rollout.scenarios, small.rl.rollout.episodes, small.rl.rollout.max_tokens) == (8, 4, None)
    assert (small.rl.train.objective, small.rl.train.quantization) == ("ppo", None)
    assert small.rl.train.lora is not None
    assert small.rl.train.lora.rank == 16
    assert (small.validation.count, small.validation.samples, small.held_out.count) == (24, 1, 40)
    assert small.release.min_scenarios == 36
    check_run(small.run())
    assert Pipeline.model_validate(small.model_dump(mode="json")) == small


def test_what_is_small_already_stays() -> None:
    values = {
        "name": "little",
        "environment": "sat-small",
        "model": {"starter": {"context_length": 4096}},
        "demonstrations": {"scenarios": 100},
        "sft": {
            "steps": 5,
            "token_budget": 2048,
            "observation_weight": 0.5,
            "optimizer": {"learning_rate": 3e-3},
        },
        "rl": {
            "rounds": 1,
            "rollout": {"scenarios": 2, "episodes": 2},
            "train": {"token_budget": 2048, "optimizer": {"learning_rate": 2e-3}},
        },
        "validation": {"count": 10},
        "held_out": {"count": 20},
        "release": {"min_scenarios": 10},
    }
    config = Pipeline.model_validate(values)
    assert list(config.differences(quick(config, KNOWN))) == ["name = 'quick-little', and not 'little'"]
