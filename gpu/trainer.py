"""Carries out a train command: a frozen dataset in, a checkpoint folder out.

Each optimizer step goes over micro-batches under the device's lock, one at a time, so that an engine on the
same device is served in between. Nothing is written before every step has ended with finite numbers.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from gpu import checkpoints, objectives
from gpu.data import Episode, MicroBatch, Selection, micro_batches, select
from gpu.device import named_failures
from gpu.forward import log_probs
from gpu.optimizer import AdamW
from gpu.policy import Policy
from rl.config import GrpoTrain, SftTrain, TrainConfig
from rl.errors import ChildLost, InvalidInput
from rl.protocol import CheckpointWritten, Done, Progress, TrainCommand

TRAIN_CONFIG: TypeAdapter[SftTrain | GrpoTrain] = TypeAdapter(TrainConfig)
MANY_UPDATES = 8

Emit = Callable[[Progress | CheckpointWritten | Done], None]
Sums = dict[str, float]


def train(command: TrainCommand, policy: Policy, emit: Emit, stopping: Callable[[], bool] = lambda: False) -> None:
    """Run ``command`` on the policy's device, reporting through ``emit``; deterministic by seed on a CPU.

    Raises:
        InvalidInput: the config, the dataset or the parent cannot be used.
        OffPolicyRefused: an on-policy objective was given foreign calls.
        NoTrainingData: SFT has no rows left.
        TrainingDiverged: a loss or gradient is not finite; nothing was saved.
        OutOfMemory, DiskFull: the machine has no room.
        ChildLost: ``stopping`` said so between two steps; nothing was saved.
    """
    config = parse_config(command.config)
    parent = command.parent
    model, tokens = policy.trainable(command.base, parent, config.lora, config.seed)
    chosen = select(Path(command.dataset), config, tokens, int(model.config.max_position_embeddings))
    state = checkpoints.read_optimizer(Path(parent)) if parent else {}
    total = _total_steps(config) if chosen.episodes else 0
    optimizer = AdamW(model, config.optimizer, total, state)
    metrics: Sums = {}
    for batch in _batches(chosen.episodes, config, optimizer.step) if total else ():
        if stopping():
            raise ChildLost(f"told to stop after step {optimizer.done} of {total}, before a checkpoint was written")
        metrics = _step(model, optimizer, batch, config, policy)
        emit(Progress(job=command.job, fence=command.fence, step=optimizer.done, total=total, metrics=metrics))
    effective = config.model_dump(mode="json")
    path, kind, sha256 = checkpoints.write(
        Path(command.out), model, optimizer.step, command.base, parent, effective, optimizer.state()
    )
    where = {"job": command.job, "fence": command.fence}
    emit(CheckpointWritten(**where, step=optimizer.step, path=str(path), kind=kind, sha256=sha256, metrics=metrics))
    emit(Done(**where, manifest=_manifest(config, chosen, optimizer)))


def parse_config(config: dict[str, object]) -> SftTrain | GrpoTrain:
    """The typed config of a command.

    Raises:
        InvalidInput: a key is unknown or a value out of range.
    """
    try:
        return TRAIN_CONFIG.validate_python(config)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput("config." + ".".join(map(str, first["loc"])), first["input"], first["msg"]) from error


def _total_steps(config: SftTrain | GrpoTrain) -> int:
    return config.steps if isinstance(config, SftTrain) else config.epochs * config.mini_batches


def _batches(episodes: list[Episode], config: SftTrain | GrpoTrain, done: int) -> Iterator[list[Episode]]:
    """The episodes of each optimizer step, shuffled by the seed and how far the lineage has come."""
    rng = random.Random(f"{config.seed}/{done}")
    if isinstance(config, GrpoTrain):
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


def _step(model: Any, optimizer: AdamW, batch: list[Episode], config: SftTrain | GrpoTrain, policy: Policy) -> Sums:
    """Gradients of one batch and one update; the metrics of the step."""
    began, sums = time.perf_counter(), defaultdict[str, float](float)
    counted = torch.tensor([episode.spoken for episode in batch], device=policy.device)
    for micro in micro_batches(batch, config.token_budget):
        with policy.lock, named_failures("training"):
            if isinstance(config, SftTrain):
                _clone(model, micro, batch, config, sums)
            else:
                _reinforce(model, micro, batch, counted, config, sums)
    with policy.lock, named_failures("training"):
        norm = optimizer.update(sums["loss"]) if batch else 0.0
    tokens = sum(episode.length for episode in batch)
    spoken = sum(episode.spoken for episode in batch)
    per_token = {key: sums[key] / max(spoken, 1) for key in ("kl", "clip_share", "entropy") if key in sums}
    seconds = time.perf_counter() - began
    return {"loss": sums["loss"], **per_token, "gradient_norm": norm, "tokens_per_second": tokens / seconds}


def _clone(model: Any, micro: MicroBatch, batch: list[Episode], config: SftTrain, sums: Sums) -> None:
    """Add the SFT gradient of one micro-batch."""
    n_spoken = sum(episode.spoken for episode in batch)
    n_observed = sum(episode.length for episode in batch) - n_spoken
    device = model.device
    spoken = micro.spoken.to(device)
    selected = torch.ones_like(spoken) if config.observation_weight else spoken
    terms = log_probs(model, micro.ids.to(device), micro.lengths.to(device), selected)
    loss = objectives.sft(
        terms.logp, spoken[terms.row, terms.column].float(), n_spoken, n_observed, config.observation_weight
    )
    loss.backward()  # type: ignore[no-untyped-call]
    sums["loss"] += float(loss.detach())


def _reinforce(
    model: Any, micro: MicroBatch, batch: list[Episode], counted: Tensor, config: GrpoTrain, sums: Sums
) -> None:
    """Add the GRPO gradient of one micro-batch; ``counted`` [episodes] are the batch's spoken tokens."""
    device = model.device
    terms = log_probs(
        model, micro.ids.to(device), micro.lengths.to(device), micro.spoken.to(device), config.temperature
    )
    episode = micro.episode.to(device)[terms.row]
    old = micro.old_logp.to(device)[terms.row, terms.column]
    advantage = torch.tensor([one.advantage for one in batch], device=device)[episode]
    clips = (config.clip_low, config.clip_high)
    loss = objectives.grpo(terms.logp, old, advantage, episode, len(batch), *clips, counted)
    loss.backward()  # type: ignore[no-untyped-call]
    kl, held = objectives.drift(terms.logp, old, advantage, *clips)
    for key, value in (("loss", loss.detach()), ("kl", kl), ("clip_share", held), ("entropy", terms.entropy)):
        sums[key] += float(value)


def _manifest(config: SftTrain | GrpoTrain, chosen: Selection, optimizer: AdamW) -> dict[str, object]:
    """What was really used, what was skipped and why."""
    rows = {"read": chosen.read, "used": len(chosen.episodes), "skipped": dict(chosen.skipped)}
    return {
        "objective": config.objective,
        "updates": optimizer.done,
        "step": optimizer.step,
        "rows": rows,
        "sequences": sum(len(episode.sequences) for episode in chosen.episodes),
        "tokens": sum(episode.length for episode in chosen.episodes),
        "spoken_tokens": sum(episode.spoken for episode in chosen.episodes),
        "config": config.model_dump(mode="json"),
        "warnings": _warnings(config),
    }


def _warnings(config: SftTrain | GrpoTrain) -> list[str]:
    updates = _total_steps(config)
    if isinstance(config, GrpoTrain) and updates > MANY_UPDATES:
        return [f"{updates} updates on one batch of rollouts: the later ones learn from a policy that is gone"]
    return []
