"""Where a training starts: at its parent, or at a saved state of itself."""

from __future__ import annotations

import logging
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gpu import checkpoints, sharding
from gpu.device import named_failures
from gpu.episodes import Episode
from gpu.objectives.value import ValueHead
from gpu.optimizer import AdamW
from gpu.policy import Policy
from gpu.states import Position, Saved, States
from gpu.steps import Steps
from rl.config import TrainConfig
from rl.errors import InvalidInput
from rl.objectives import Ppo
from rl.protocol import TrainCommand

log = logging.getLogger(__name__)

NONE = -1
"""The step of a state that a process cannot use."""


@dataclass(frozen=True)
class Begun:
    """The steps to go on with, the batches they have taken, and what the manifest says of a state resumed from."""

    steps: Steps
    batches: int
    said: dict[str, object]


@dataclass(frozen=True)
class Start:
    """What a training is made of before its first step; ``total`` counts its updates."""

    command: TrainCommand
    config: TrainConfig
    model: Any
    policy: Policy
    total: int
    episodes: list[Episode]


def begin(start: Start, states: States) -> Generator[float, None, Begun]:
    """Prepare the episodes, then stand where the command's state stands; at the start where none can be used.

    Yields the share of the preparation that is done. A state that is resumed from is known to fit before anything is
    prepared, and changes the model only afterwards: what is prepared is of the weights that the training began with.
    Of several processes none goes on from a state that another cannot use.

    Raises:
        InvalidInput: the parent does not fit the config.
    """
    policy, command = start.policy, start.command
    with policy.lock, named_failures("loading the training's state"):
        moments = checkpoints.read_optimizer(Path(command.parent)) if command.parent else {}
        optimizer = _optimizer(start, moments)
        resumed, said = _resumed(start, states, optimizer)
        steps = Steps(start.model, optimizer, start.config, policy, start.episodes)
        steps.go_on(moments)
    if start.total:
        yield from steps.prepare()
    if resumed is None:
        return Begun(steps, 0, said)
    with policy.lock, named_failures("loading the training's state"):
        _restore(steps, *resumed)
    return Begun(steps, resumed[0].position.batches, said)


def _optimizer(start: Start, moments: dict[str, torch.Tensor], done: int = 0, head: ValueHead | None = None) -> AdamW:
    config, rate = start.config, None
    if isinstance(config, Ppo):
        head = head or ValueHead(start.model.config.get_text_config().hidden_size).to(start.policy.device)
        rate = config.value_learning_rate
    return AdamW(start.model, config.optimizer, start.total, moments, done, head, rate)


def _resumed(start: Start, states: States, optimizer: AdamW) -> tuple[tuple[Saved, AdamW] | None, dict[str, object]]:
    """The state to go on from with its optimizer, and what the manifest says of it."""
    folder, ranks = start.command.resume, start.policy.ranks
    if folder is None or not start.total:
        return None, {}
    found: tuple[Saved, AdamW] | None = None
    done, refused = NONE, ""
    try:
        saved = states.read(Path(folder), optimizer.named)
        found = saved, _optimizer(start, saved.moments, saved.position.done, optimizer.value_head)
        done = saved.position.done
    except InvalidInput as error:
        refused = str(error)
        log.warning("the training starts from the beginning: %s", refused)
    least, most = ranks.least(done), ranks.most(done)
    if found is not None and least == most:
        return found, {"resumed": {"step": done}}
    remedy = "another process of the training cannot use it, or found another step there; see the child's log"
    return None, {"resume_refused": refused or str(InvalidInput("resume", folder, remedy))}


def _restore(steps: Steps, saved: Saved, optimizer: AdamW) -> None:
    with torch.no_grad():
        for name, parameter in optimizer.named.items():
            parameter.copy_(sharding.part(saved.weights[name], parameter))
    position: Position = saved.position
    steps.optimizer = optimizer
    steps.token_budget, steps.shrunk = min(steps.token_budget, position.token_budget), position.shrunk
    if position.kl_coefficient is not None:
        steps.kl_coefficient = position.kl_coefficient
    steps.engine_gap = position.engine_gap
