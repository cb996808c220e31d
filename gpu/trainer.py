"""Carries out a train command: a frozen dataset in, checkpoint folders out.

Each optimizer step goes over micro-batches under the device's lock, one at a time, so that an engine on the
same device is served in between. The last checkpoint is written when every step has ended with finite numbers, others
every so many steps where the config says so; states from which the command can be resumed lie beside them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from gpu import checkpoints, provenance, several, sharding
from gpu.ahead import ahead
from gpu.begin import Start, begin
from gpu.data import curated, select
from gpu.device import named_failures
from gpu.episodes import Episode
from gpu.fit import quantization
from gpu.policy import Policy
from gpu.reported import Emit, Reported
from gpu.rows import Selection
from gpu.states import Position, States, remove_older
from gpu.steps import Batch, Steps
from gpu.tokens import ChatTokens
from rl import effective
from rl.batches import batches, curated_batches, places_taken, total_steps
from rl.config import TrainConfig
from rl.errors import ChildLost, InvalidInput
from rl.memory import SMALLEST_BUDGET
from rl.objectives import OnPolicy
from rl.protocol import CheckpointWritten, Done, TrainCommand

TRAIN_CONFIG: TypeAdapter[TrainConfig] = TypeAdapter(TrainConfig)


def train(
    command: TrainCommand,
    policy: Policy,
    emit: Emit,
    stopping: Callable[[], bool] = lambda: False,
    pausing: Callable[[], bool] = lambda: False,
) -> None:
    """Run ``command`` on the policy's device, reporting through ``emit``; deterministic by seed on a CPU.

    Told to pause, it saves its state between two steps, says ``Paused`` and returns. A state that cannot be resumed
    from is named in the manifest, and the training starts from the beginning. One over several devices runs in
    processes of its own (``gpu.several``), each of which comes here; the first one speaks and writes.

    Raises:
        InvalidInput: the config, the dataset or the parent cannot be used.
        OffPolicyRefused: an on-policy objective was given foreign calls.
        NoTrainingData: there is nothing left to clone.
        TrainingDiverged: a loss or gradient is not finite; the last checkpoint was not written.
        OutOfMemory, DiskFull: the machine has no room.
        ChildLost: ``stopping`` said so between two steps; the last checkpoint was not written.
    """
    config, ranks = parse_config(command.config), policy.ranks
    if config.devices > ranks.world:
        several.train(command, config, policy, emit, stopping, pausing)
        return
    stopping, pausing = ranks.agreed(stopping), ranks.agreed(pausing)
    emit = emit if ranks.first else lambda event: None
    bits = quantization(
        Path(command.base),
        config,
        policy.device,
        longest=SMALLEST_BUDGET,
        loaded=policy.holds(command.base),
        served=policy.serves(command.base),
    )
    model, tokens = policy.trainable(command.base, command.parent, config.lora, config.seed, bits)
    with named_failures("dividing the model"):
        ranks.shard(model, policy.device)
    context_length = int(model.config.max_position_embeddings)
    chosen = select(Path(command.dataset), config, tokens, context_length)
    beside = _curated(command, config, tokens, context_length)
    start = Start(command, config, model, policy, total_steps(config, len(chosen.episodes)), chosen.episodes)
    states = States(command, config)
    progress = Reported(command, start.total, emit)
    begun = progress.during(begin(start, states), stopping, pausing)
    if begun is None:
        return
    steps = begun.steps
    due = ranks.agreed(lambda: states.due(steps.optimizer.done))
    progress.begin(begun.batches)
    metrics: dict[str, float] = {}
    with closing(ahead(_packed(steps, start, beside, begun.batches))) as packed:
        for taken, batch in enumerate(packed, start=begun.batches):
            if pausing():
                _save(states, steps, taken, emit)
                progress.paused(steps.optimizer.done)
                return
            if stopping():
                done = f"step {steps.optimizer.done} of {start.total}"
                raise ChildLost(f"told to stop after {done}, before its last checkpoint was written")
            if due():
                _save(states, steps, taken, emit)
            first = _first(chosen, steps) if taken == begun.batches else {}
            metrics = progress.step(steps.optimizer, steps.run(batch) | first)
            if _is_due(config, steps.optimizer.done, start.total):
                _write(command, config, model, steps, metrics, emit)
    _write(command, config, model, steps, metrics, emit)
    if ranks.first:
        said = _manifest(config, chosen, steps, beside) | begun.said | ranks.manifest()
        said |= provenance.recorded(command, policy.device)
        emit(Done(job=command.job, fence=command.fence, manifest=said))


def _is_due(config: TrainConfig, done: int, total: int) -> bool:
    """Whether a checkpoint is written after ``done`` of ``total`` updates, beside the one after the last."""
    return config.checkpoint_every is not None and done % config.checkpoint_every == 0 and done < total


def _first(chosen: Selection, steps: Steps) -> dict[str, float]:
    """What the first step says beside its own numbers: how memory is used, and how far scores of a group differ."""
    variance = {} if chosen.variance is None else {"group_variance": chosen.variance}
    return steps.planned.metrics() | variance


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


def _write(
    command: TrainCommand, config: TrainConfig, model: Any, steps: Steps, metrics: dict[str, float], emit: Emit
) -> None:
    """Write the checkpoint of the step that the training stands at, and say so."""
    settings, optimizer = config.model_dump(mode="json"), steps.optimizer
    with named_failures("gathering a checkpoint"):
        state, weights = optimizer.state() | steps.carried(), sharding.weights(model, adapter=config.lora is not None)
    if not steps.ranks.first:
        return
    path, kind, sha256 = checkpoints.write(
        Path(command.out), model, optimizer.step, command.base, command.parent, settings, state, weights
    )
    written = CheckpointWritten(
        job=command.job,
        fence=command.fence,
        step=optimizer.step,
        path=str(path),
        kind=kind,
        sha256=sha256,
        metrics=metrics,
    )
    emit(written)


def _save(states: States, steps: Steps, batches: int, emit: Emit) -> None:
    """Save the state after ``batches`` batches; all but the one before it are removed."""
    optimizer = steps.optimizer
    position = Position(
        batches=batches,
        done=optimizer.done,
        token_budget=steps.token_budget,
        shrunk=steps.shrunk,
        kl_coefficient=steps.kl_coefficient if steps.adaptive else None,
        engine_gap=steps.engine_gap,
    )
    with named_failures("gathering a state"):
        weights, moments = sharding.all_whole(optimizer.named), optimizer.state()
    saved = states.save(position, weights, moments) if steps.ranks.first else None
    if saved is not None:
        emit(saved)
        remove_older(Path(saved.path))


def _curated(command: TrainCommand, config: TrainConfig, tokens: ChatTokens, context_length: int) -> Selection | None:
    """What is cloned beside the objective, if the config asks for it."""
    rule = config.ptx if isinstance(config, OnPolicy) else None
    if rule is None:
        return None
    if command.curated is None:
        raise InvalidInput("config.ptx.source", rule.source, "the command came without its rows")
    return curated(Path(command.curated), tokens, context_length)


def _packed(steps: Steps, start: Start, beside: Selection | None, taken: int) -> Iterator[Batch]:
    """The batches that are still to come, packed."""
    if not start.total:
        return
    config, lineage = start.config, steps.optimizer.step - steps.optimizer.done
    several: Iterator[list[Episode]] = itertools.repeat([])
    if beside is not None and isinstance(config, OnPolicy) and config.ptx is not None:
        several = curated_batches(beside.episodes, config.ptx, config, lineage)
    both = zip(batches(steps.episodes, config, lineage), several, strict=False)
    for episodes, more in itertools.islice(both, taken, None):
        yield steps.pack(episodes, more)


def _manifest(config: TrainConfig, chosen: Selection, steps: Steps, beside: Selection | None) -> dict[str, object]:
    """What was really used, what was skipped and why."""
    in_effect = effective.manifest(config)
    own, among_curated = _drawn(config, len(chosen.episodes), 0 if beside is None else len(beside.episodes), steps)
    warnings = effective.warnings(config, steps.adapts_by, chosen.group_size)
    return {
        "objective": config.objective,
        "updates": steps.optimizer.done,
        "step": steps.optimizer.step,
        "layout": {"name": steps.layout, "reason": steps.why, **asdict(steps.shares)},
        "memory": steps.planned.manifest(),
        "checkpointed_layers": steps.plan.checkpointed_layers,
        "token_budget": steps.token_budget,
        "token_budget_shrunk": steps.shrunk,
        "rows": chosen.manifest(own),
        "curated": None if beside is None else beside.manifest(among_curated),
        "sequences": sum(len(episode.sequences) for episode in chosen.episodes),
        "tokens": sum(episode.length for episode in chosen.episodes),
        "spoken_tokens": sum(episode.spoken for episode in chosen.episodes),
        "group_variance": chosen.variance,
        "engine_gap": steps.engine_gap,
        "config": config.model_dump(mode="json"),
        "effective": {name: in_effect[name] for name in ("settings", "derived")},
        "warnings": warnings + chosen.warnings,
    }


def _drawn(config: TrainConfig, episodes: int, curated: int, steps: Steps) -> tuple[int, int]:
    """How many of the episodes, and of the curated ones, a step took."""
    done = steps.optimizer.done
    lineage = steps.optimizer.step - done
    own = places_taken(batches(range(episodes), config, lineage), done, episodes)
    if not (isinstance(config, OnPolicy) and config.ptx):
        return len(own), 0
    return len(own), len(places_taken(curated_batches(range(curated), config.ptx, config, lineage), done, curated))
