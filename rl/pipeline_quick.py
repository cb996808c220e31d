"""A pipeline made small: every stage of it within minutes on a CPU, to try the way and not to learn."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, TypeVar

from rl.config import Lora, Rollout, SftTrain, TaskSet
from rl.decidable import pairs_left
from rl.mix import members
from rl.pipeline import Model, Pipeline, Starter
from rl.training import Train

AnyTrain = TypeVar("AnyTrain", bound=Train)

SCENARIOS, STEPS, ROUNDS, GROUPS, GROUP, VALIDATION, HELD_OUT = 240, 60, 2, 8, 4, 24, 40
TOKENS, CONTEXT = 2048, 4096

SMALLER = {"babyai": "babyai-goto"}
"""Environments whose small profile has another name than ``NAME-small``."""


def quick(config: Pipeline, known: Container[str]) -> Pipeline:
    """The pipeline ``quick-NAME``: a starter model, small profiles where there are any, and few of everything.

    ``known`` are the names of the environments there are.
    """
    small = smaller(config.environment, known)
    held_out = _few(config.held_out, HELD_OUT, known)
    rollout = _played(config.rl.rollout, known)
    practice = {"rounds": min(config.rl.rounds, ROUNDS), "rollout": rollout, "train": _light(config.rl.train, 2e-3)}
    order = config.demonstrations
    demonstrations = {
        "environment": smaller(order.environment, known),
        "scenarios": min(order.scenarios, SCENARIOS),
    }
    least = min(config.release.min_scenarios, pairs_left(held_out.count))
    return config.model_copy(
        update={
            "name": f"quick-{config.name}"[:64],
            "environment": small,
            "model": Model(starter=Starter(vocabulary=512, context_length=CONTEXT)),
            "demonstrations": order.model_copy(update=demonstrations),
            "sft": _cloned(config.sft),
            "rl": config.rl.model_copy(update=practice),
            "validation": _few(config.validation, VALIDATION, known),
            "held_out": held_out,
            "release": config.release.model_copy(update={"min_scenarios": least}),
        }
    )


def smaller(environment: str, known: Container[str]) -> str:
    """The environment, or mix, with each member in its small profile where it has one."""
    found: dict[str, int] = {}
    for member in members(environment):
        name = next((one for one in _candidates(member.environment) if one in known), member.environment)
        found[name] = found.get(name, 0) + member.weight
    only = len(found) == 1
    return "+".join(name if only or weight == 1 else f"{name}*{weight}" for name, weight in found.items())


def _candidates(name: str) -> list[str]:
    return [SMALLER.get(name, f"{name}-small")]


def _few(tasks: TaskSet, count: int, known: Container[str]) -> TaskSet:
    changed = {"environment": smaller(tasks.environment, known), "count": min(tasks.count, count)}
    return tasks.model_copy(update={**changed, "samples": 1, "temperature": 0.0})


def _played(rollout: Rollout, known: Container[str]) -> Rollout:
    environment = smaller(rollout.environment, known)
    changed: dict[str, Any] = {"scenarios": min(rollout.scenarios, GROUPS), "episodes": min(rollout.episodes, GROUP)}
    if environment != rollout.environment:
        changed |= {"max_tokens": None}
    return rollout.model_copy(update={"environment": environment, **changed})


def _cloned(sft: SftTrain) -> SftTrain:
    """Full weights, as a starter knows nothing that an adapter could stand on."""
    changed = {"steps": min(sft.steps, STEPS), "checkpoint_every": None, "observation_weight": 0.5}
    return _light(sft, 3e-3).model_copy(update={**changed, "lora": None})


def _light(train: AnyTrain, learning_rate: float) -> AnyTrain:
    """What a small model on a CPU can be trained with."""
    plain: dict[str, Any] = {"token_budget": TOKENS, "devices": 1, "quantization": None, "checkpointing": "auto"}
    lora = None if train.lora is None else Lora(rank=min(train.lora.rank, 16), alpha=min(train.lora.alpha, 32))
    changed = {"learning_rate": learning_rate, "warmup_steps": min(train.optimizer.warmup_steps, 3)}
    optimizer = train.optimizer.model_copy(update=changed)
    return train.model_copy(update={**plain, "lora": lora, "optimizer": optimizer})
