"""Carries out a train command: a frozen dataset in, a checkpoint folder out.

Each optimizer step goes over micro-batches under the device's lock, one at a time, so that an engine on the
same device is served in between. No checkpoint is written before every step has ended with finite numbers; states
from which the command can be resumed are.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from gpu import checkpoints
from gpu.data import Episode, Selection, select
from gpu.device import named_failures
from gpu.optimizer import AdamW, trained
from gpu.policy import Policy
from gpu.states import Position, States, remove_older
from gpu.steps import Steps
from rl import effective
from rl.config import TrainConfig
from rl.errors import ChildLost, InvalidInput
from rl.objectives import Cloning
from rl.protocol import CheckpointWritten, Done, Paused, Progress, StateSaved, TrainCommand

TRAIN_CONFIG: TypeAdapter[TrainConfig] = TypeAdapter(TrainConfig)

Emit = Callable[[Progress | CheckpointWritten | StateSaved | Paused | Done], None]


def train(
    command: TrainCommand,
    policy: Policy,
    emit: Emit,
    stopping: Callable[[], bool] = lambda: False,
    pausing: Callable[[], bool] = lambda: False,
) -> None:
    """Run ``command`` on the policy's device, reporting through ``emit``; deterministic by seed on a CPU.

    Told to pause, it saves its state between two steps, says ``Paused`` and returns. A state that cannot be resumed
    from is named in the manifest, and the training starts from the beginning.

    Raises:
        InvalidInput: the config, the dataset or the parent cannot be used.
        OffPolicyRefused: an on-policy objective was given foreign calls.
        NoTrainingData: there is nothing left to clone.
        TrainingDiverged: a loss or gradient is not finite; nothing was saved.
        OutOfMemory, DiskFull: the machine has no room.
        ChildLost: ``stopping`` said so between two steps; nothing was saved.
    """
    config = parse_config(command.config)
    _refuse_devices(config, policy)
    model, tokens = policy.trainable(command.base, command.parent, config.lora, config.seed, config.quantization)
    chosen = select(Path(command.dataset), config, tokens, int(model.config.max_position_embeddings))
    total = _total_steps(config) if chosen.episodes else 0
    states = States(command, config)
    begun = _begin(command, config, model, policy, total, states, chosen.episodes)
    steps, optimizer = begun.steps, begun.steps.optimizer
    where = {"job": command.job, "fence": command.fence}
    batches = _batches(chosen.episodes, config, optimizer.step - optimizer.done) if total else iter(())
    metrics: dict[str, float] = {}
    for taken, batch in enumerate(itertools.islice(batches, begun.batches, None), start=begun.batches):
        if pausing():
            _save(states, steps, taken, emit)
            emit(Paused(**where, step=optimizer.done))
            return
        if stopping():
            raise ChildLost(f"told to stop after step {optimizer.done} of {total}, before a checkpoint was written")
        if states.due(optimizer.done):
            _save(states, steps, taken, emit)
        metrics = steps.run(batch)
        emit(Progress(**where, step=optimizer.done, total=total, metrics=metrics))
    emit(_write(command, config, model, steps, metrics))
    emit(Done(**where, manifest=_manifest(config, chosen, steps) | begun.said))


@dataclass(frozen=True)
class Begun:
    """The steps to go on with, the batches they have taken, and what the manifest says of a state resumed from."""

    steps: Steps
    batches: int
    said: dict[str, object]


def parse_config(config: dict[str, object]) -> TrainConfig:
    """The typed config of a command.

    Raises:
        InvalidInput: a key is unknown or a value out of range.
    """
    try:
        return TRAIN_CONFIG.validate_python(config)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["config", *map(str, first["loc"])])
        cause = getattr(first.get("ctx", {}).get("error"), "__cause__", None)
        if isinstance(cause, InvalidInput):
            raise InvalidInput(f"{where}.{cause.field}", cause.value, cause.remedy) from error
        raise InvalidInput(where, first["input"], first["msg"]) from error


def _refuse_devices(config: TrainConfig, policy: Policy) -> None:
    if config.devices > policy.devices:
        remedy = f"this worker has {policy.devices} of them; ask for no more, or give it others joined with +"
        raise InvalidInput("config.devices", config.devices, remedy)
    if config.devices > 1:
        raise InvalidInput("config.devices", config.devices, "a training runs on one device; set 1")


def _begin(
    command: TrainCommand,
    config: TrainConfig,
    model: Any,
    policy: Policy,
    total: int,
    states: States,
    episodes: list[Episode],
) -> Begun:
    """Start where the state that the command names stands; from the beginning where there is none to be used."""
    refused: dict[str, object] = {}
    with policy.lock, named_failures("loading the training's state"):
        if command.resume is not None and total:
            try:
                return _resume(command.resume, config, model, policy, total, states, episodes)
            except InvalidInput as error:
                refused = {"resume_refused": str(error)}
        moments = checkpoints.read_optimizer(Path(command.parent)) if command.parent else {}
        optimizer = AdamW(model, config.optimizer, total, moments)
        steps = Steps(model, optimizer, config, policy, episodes)
        steps.go_on(moments)
        return Begun(steps, 0, refused)


def _resume(
    folder: str,
    config: TrainConfig,
    model: Any,
    policy: Policy,
    total: int,
    states: States,
    episodes: list[Episode],
) -> Begun:
    """Go on from the state in ``folder``; the model is changed only once all of it is known to fit."""
    saved = states.read(Path(folder), trained(model))
    position = saved.position
    optimizer = AdamW(model, config.optimizer, total, saved.moments, position.done)
    with torch.no_grad():
        for name, parameter in optimizer.named.items():
            parameter.copy_(saved.weights[name])
    steps = Steps(model, optimizer, config, policy, episodes)
    steps.token_budget, steps.shrunk = min(steps.token_budget, position.token_budget), position.shrunk
    if position.kl_coefficient is not None:
        steps.kl_coefficient = position.kl_coefficient
    return Begun(steps, position.batches, {"resumed": {"step": position.done}})


def _write(
    command: TrainCommand, config: TrainConfig, model: Any, steps: Steps, metrics: dict[str, float]
) -> CheckpointWritten:
    """Write the checkpoint."""
    settings, optimizer = config.model_dump(mode="json"), steps.optimizer
    state = optimizer.state() | steps.carried()
    path, kind, sha256 = checkpoints.write(
        Path(command.out), model, optimizer.step, command.base, command.parent, settings, state
    )
    return CheckpointWritten(
        job=command.job,
        fence=command.fence,
        step=optimizer.step,
        path=str(path),
        kind=kind,
        sha256=sha256,
        metrics=metrics,
    )


def _save(states: States, steps: Steps, batches: int, emit: Emit) -> None:
    """Save the state after ``batches`` batches; all but the one before it are removed."""
    optimizer = steps.optimizer
    position = Position(
        batches=batches,
        done=optimizer.done,
        token_budget=steps.token_budget,
        shrunk=steps.shrunk,
        kl_coefficient=steps.kl_coefficient if steps.adaptive else None,
    )
    saved = states.save(position, optimizer.named, optimizer.state())
    if saved is not None:
        emit(saved)
        remove_older(Path(saved.path))


def _total_steps(config: TrainConfig) -> int:
    return config.steps if isinstance(config, Cloning) else config.epochs * config.mini_batches


def _batches(episodes: list[Episode], config: TrainConfig, done: int) -> Iterator[list[Episode]]:
    """The episodes of each optimizer step, shuffled by the seed and how far the lineage has come."""
    rng = random.Random(f"{config.seed}/{done}")
    if not isinstance(config, Cloning):
        for _ in range(config.epochs):
            order = rng.sample(episodes, len(episodes))
            yield from (order[start :: config.mini_batches] for start in range(config.mini_batches))
        return
    order = []
    for _ in range(config.steps):
        if len(order) < min(config.batch_episodes, len(episodes)):
            order = rng.sample(episodes, len(episodes))
        order, batch = order[config.batch_episodes :], order[: config.batch_episodes]
        yield batch


def _manifest(config: TrainConfig, chosen: Selection, steps: Steps) -> dict[str, object]:
    """What was really used, what was skipped and why."""
    rows = {"read": chosen.read, "used": len(chosen.episodes), "skipped": dict(chosen.skipped)}
    in_effect = effective.manifest(config)
    warnings = effective.warnings(config, steps.largest_batch, chosen.group_size)
    return {
        "objective": config.objective,
        "updates": steps.optimizer.done,
        "step": steps.optimizer.step,
        "layout": {"name": steps.layout, "reason": steps.why, **asdict(steps.shares)},
        "token_budget": steps.token_budget,
        "token_budget_shrunk": steps.shrunk,
        "rows": rows,
        "sequences": sum(len(episode.sequences) for episode in chosen.episodes),
        "tokens": sum(episode.length for episode in chosen.episodes),
        "spoken_tokens": sum(episode.spoken for episode in chosen.episodes),
        "config": config.model_dump(mode="json"),
        "effective": {name: in_effect[name] for name in ("settings", "derived")},
        "warnings": warnings + chosen.warnings,
    }
