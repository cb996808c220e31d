"""Carries out a train command with TRL: the same dataset, config, events and checkpoint folder as ``gpu/trainer.py``.

Rows, advantages, batches and learning rates are made by the code that the local backend uses; forward pass, loss,
clipping and loop are TRL's. No states are saved: a training that is interrupted starts from the beginning.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from trl import __version__ as trl_version

from gpu import checkpoints
from gpu.data import select
from gpu.device import free_unused, named_failures
from gpu.episodes import Episode
from gpu.optimizer import AdamW
from gpu.policy import Policy
from gpu.provenance import recorded
from gpu.reported import Emit, Reported
from gpu.rows import Selection
from gpu.trainer import parse_config
from gpu.trl_loop import Feed, Follower, made, unchanged
from gpu.trl_rows import Shape, parts_of, refuse_cut, shape_of
from rl import effective, trl
from rl.batches import batches, places_taken, total_steps
from rl.config import TrainConfig
from rl.errors import ChildLost, InvalidInput, OutOfMemory
from rl.objectives import OnPolicy
from rl.protocol import CheckpointWritten, Done, TrainCommand

log = logging.getLogger(__name__)

Told = Callable[[], bool]


def train(
    command: TrainCommand,
    policy: Policy,
    emit: Emit,
    stopping: Told = lambda: False,
    pausing: Told = lambda: False,
) -> None:
    """Run ``command`` on the policy's device, reporting through ``emit``.

    Told to pause, it says ``Paused`` between two steps, without a state. A training that runs out of memory begins
    again with half the rows in a micro-batch.

    Raises:
        InvalidInput: TRL would not honour the config, or the dataset or the parent cannot be used.
        OffPolicyRefused: an on-policy objective was given foreign calls.
        NoTrainingData: there is nothing left to clone.
        TrainingDiverged: a loss or gradient is not finite; nothing was saved.
        OutOfMemory, DiskFull: the machine has no room.
        ChildLost: ``stopping`` said so between two steps; nothing was saved.
    """
    config = parse_config(command.config)
    _refuse(config, policy)
    training = _Training(command, config, policy, emit, stopping, pausing)
    over = False
    while not over:
        over = training.over()
        free_unused(policy.device)  # a trainer of transformers' refers to itself


class _Training:
    """One command. ``token_budget`` is the config's until memory runs out, ``shrunk`` how often it has been lowered."""

    optimizer: AdamW

    def __init__(
        self, command: TrainCommand, config: TrainConfig, policy: Policy, emit: Emit, stopping: Told, pausing: Told
    ) -> None:
        self.command, self.config, self.policy, self.emit = command, config, policy, emit
        self.stopping, self.pausing = stopping, pausing
        self.token_budget, self.shrunk = config.token_budget, 0
        self.metrics: dict[str, float] = {}

    def over(self) -> bool:
        """Train from the start. False when memory ran out, and what is left is to try again with smaller parts."""
        command, config = self.command, self.config
        model, tokens = self.policy.trainable(command.base, command.parent, config.lora, config.seed)
        chosen = select(Path(command.dataset), config, tokens, int(model.config.max_position_embeddings))
        moments = checkpoints.read_optimizer(Path(command.parent)) if command.parent else {}
        total = total_steps(config, len(chosen.episodes))
        self.optimizer = AdamW(model, config.optimizer, total, moments)
        taken = list(batches(chosen.episodes, config, self.optimizer.step)) if total else []
        shape = shape_of(taken, self.token_budget) if taken else Shape(0, 0, 0)
        self.reported = Reported(command, total, self.emit)
        if self._halted(len(taken)):
            return True
        if not self._learnt(model, tokens.tokenizer, taken, shape):
            return False
        if not self._halted(len(taken)):
            self._write(model)
            self.emit(Done(job=command.job, fence=command.fence, manifest=self._manifest(chosen, shape)))
        return True

    def _learnt(self, model: Any, tokenizer: Any, taken: Sequence[Sequence[Episode]], shape: Shape) -> bool:
        """False when memory ran out. What the failed attempt held is free once this and ``over`` return."""
        try:
            self._learn(model, tokenizer, taken, shape)
        except OutOfMemory as error:
            if shape.rows <= 1:
                raise
            log.warning("beginning again with %d rows at once: %s", shape.rows // 2, error.__cause__)
            self.token_budget, self.shrunk = shape.rows // 2 * shape.width, self.shrunk + 1
            return False
        return True

    def _learn(self, model: Any, tokenizer: Any, taken: Sequence[Sequence[Episode]], shape: Shape) -> None:
        if not taken:
            return
        if isinstance(self.config, OnPolicy):
            refuse_cut([one for batch in taken for one in batch], self.config)
        feed = Feed([part for batch in taken for part in parts_of(batch, shape)], self.policy.lock, self.optimizer)
        follower = Follower(self.optimizer, taken, self._report, self._told)
        with tempfile.TemporaryDirectory() as folder, named_failures("training with TRL"), unchanged(model):
            trainer = made(feed, self.config, model, tokenizer, shape, len(taken), Path(folder))
            trainer.add_callback(follower)
            self.reported.begin(0)
            trainer.train()

    def _report(self, metrics: dict[str, float]) -> None:
        self.metrics = self.reported.step(self.optimizer, metrics)

    def _told(self) -> bool:
        return self.pausing() or self.stopping()

    def _halted(self, updates: int) -> bool:
        """Whether a pause came while updates were left; it has been said then."""
        done = self.optimizer.done
        if done == updates or not self._told():
            return False
        if not self.pausing():
            raise ChildLost(f"told to stop after step {done} of {updates}, before a checkpoint was written")
        self.reported.paused(done)
        return True

    def _write(self, model: Any) -> None:
        command, step = self.command, self.optimizer.step
        settings, state = self.config.model_dump(mode="json"), self.optimizer.state()
        path, kind, sha256 = checkpoints.write(
            Path(command.out), model, step, command.base, command.parent, settings, state
        )
        self.emit(
            CheckpointWritten(
                job=command.job,
                fence=command.fence,
                step=step,
                path=str(path),
                kind=kind,
                sha256=sha256,
                metrics=self.metrics,
            )
        )

    def _manifest(self, chosen: Selection, shape: Shape) -> dict[str, object]:
        """What was really used, what was skipped and why."""
        config, episodes, in_effect = self.config, chosen.episodes, effective.manifest(self.config)
        done, lineage = self.optimizer.done, self.optimizer.step - self.optimizer.done
        drawn = places_taken(batches(range(len(episodes)), config, lineage), done, len(episodes))
        batch = -(-len(episodes) // config.mini_batches) if isinstance(config, OnPolicy) else None
        resume: dict[str, object] = (
            {"resume_refused": "TRL saves no states: trained from the beginning"} if self.command.resume else {}
        )
        said: dict[str, object] = {
            "objective": config.objective,
            "updates": self.optimizer.done,
            "step": self.optimizer.step,
            "layout": {"name": "padded", "reason": "TRL computes one padded row for each sequence"},
            "token_budget": self.token_budget,
            "token_budget_shrunk": self.shrunk,
            "trl": {"version": trl_version, **asdict(shape)},
            "rows": chosen.manifest(len(drawn)),
            "sequences": sum(len(episode.sequences) for episode in episodes),
            "tokens": sum(episode.length for episode in episodes),
            "spoken_tokens": sum(episode.spoken for episode in episodes),
            "config": config.model_dump(mode="json"),
            "effective": {name: in_effect[name] for name in ("settings", "derived")},
            "warnings": effective.warnings(config, batch, chosen.group_size) + chosen.warnings,
        }
        return said | recorded(self.command, self.policy.device) | resume


def _refuse(config: TrainConfig, policy: Policy) -> None:
    refused = trl.refusals(config)
    if refused:
        raise InvalidInput("config", config.objective, "; ".join(refused))
    held = len(policy.devices)
    seen = torch.cuda.device_count() if policy.device.type == "cuda" else held
    if max(seen, held) > 1:
        remedy = "TRL takes every device that its process sees; give its worker one, alone in CUDA_VISIBLE_DEVICES"
        raise InvalidInput("device", seen, remedy)
