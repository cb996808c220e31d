"""TRL's trainers on what is stored: their own losses, clipping and loop, and nothing is generated or tokenised.

Micro-batches come from ``Feed`` instead of a data set, the device is taken for one of them at a time, and what is not
finite ends the training before a parameter changes.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from gpu.device import DeviceLock, named_failures
from gpu.episodes import Episode
from gpu.optimizer import AdamW
from gpu.trl_rows import Part, Shape, grpo_inputs, sft_examples
from rl.config import TrainConfig
from rl.errors import PermanentError, TrainingDiverged
from rl.objectives import OnPolicy
from rl.trl import epsilon_high, loss_of

METRICS = {"loss": "loss", "grad_norm": "gradient_norm", "entropy": "entropy", "clip_ratio/region_mean": "clip_share"}
"""What TRL logs of a step, and what a step's metrics call it. The last two are means over micro-batches."""


@dataclass(frozen=True)
class Feed:
    """All micro-batches of a training in order, whose turn on the device it is, and what takes the steps."""

    parts: Sequence[Part]
    lock: DeviceLock
    optimizer: AdamW


class Fed(Trainer):
    """A trainer of transformers' that takes what it is fed; ``collate`` makes tensors of a micro-batch."""

    def __init__(self, feed: Feed, collate: Callable[[Any], Any] | None = None, **settings: Any) -> None:
        self.feed, self.collate, self.loss = feed, collate, 0.0
        super().__init__(**settings, optimizers=(feed.optimizer.adam, schedule(feed.optimizer)))
        self.remove_callback(PrinterCallback)

    def get_train_dataloader(self) -> DataLoader[Any]:
        parts: Any = self.feed.parts
        return DataLoader(parts, batch_size=None, collate_fn=self.collate)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        with self.feed.lock, named_failures("training with TRL"):
            loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
            self.loss += float(loss)
        return loss

    def _clip_grad_norm(self, model: Any) -> Any:
        """As ``gpu.optimizer.AdamW.update``, raises TrainingDiverged before the step that follows."""
        norm = super()._clip_grad_norm(model)  # type: ignore[no-untyped-call]
        loss, self.loss = self.loss, 0.0
        if not (math.isfinite(loss) and math.isfinite(norm)):
            what = f"step {self.feed.optimizer.step + 1}: loss {loss}, gradient norm {float(norm)}"
            raise TrainingDiverged(f"{what}; lower optimizer.learning_rate")
        return norm


class FedSFT(Fed, SFTTrainer):
    """``SFTTrainer`` on stored tokens."""

    def get_train_dataloader(self) -> DataLoader[Any]:
        self.collate = lambda part: self.data_collator(sft_examples(part))
        return super().get_train_dataloader()


class FedGRPO(Fed, GRPOTrainer):
    """``GRPOTrainer`` on stored groups."""

    def _prepare_inputs(self, generation_batch: dict[str, Any]) -> dict[str, Any]:
        """What would be generated here is stored."""
        return {name: value.to(self.args.device) for name, value in generation_batch.items()}


class Follower(TrainerCallback):
    """Counts the updates on ``batches``, reports each one's metrics, and ends the loop behind one when ``told`` to."""

    def __init__(
        self,
        optimizer: AdamW,
        batches: Sequence[Sequence[Episode]],
        report: Callable[[dict[str, float]], None],
        told: Callable[[], bool],
    ) -> None:
        self.optimizer, self.report, self.told = optimizer, report, told
        self.tokens = [sum(episode.length for episode in batch) for batch in batches]
        self.began = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.began = time.perf_counter()

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        self.optimizer.step += 1
        self.optimizer.done += 1

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" not in logs:
            return  # the summary of the whole training
        now = time.perf_counter()
        speed = self.tokens[self.optimizer.done - 1] / (now - self.began)
        self.began = now
        self.report(
            {ours: float(logs[name]) for name, ours in METRICS.items() if name in logs} | {"tokens_per_second": speed}
        )
        control.should_training_stop = control.should_training_stop or self.told()


def made(
    feed: Feed, config: TrainConfig, model: Any, tokenizer: Any, shape: Shape, updates: int, folder: Path
) -> FedSFT | FedGRPO:
    """The trainer of an objective, which writes nothing but in ``folder``."""
    common = {"model": model, "processing_class": copy.deepcopy(tokenizer)}
    settings = _settings(config, shape, updates, folder, model.device.type == "cpu")
    if not isinstance(config, OnPolicy):
        row = Dataset.from_dict({"input_ids": [[0]], "labels": [[0]]})
        return FedSFT(feed, args=SFTConfig(**settings, max_length=None), train_dataset=row, **common)
    arguments = GRPOConfig(**(settings | _policy_settings(config, shape)))
    collate = partial(grpo_inputs, config=config, pad=tokenizer.pad_token_id or 0)
    unread = {"train_dataset": Dataset.from_dict({"prompt": [""]}), "reward_funcs": unasked}
    return FedGRPO(feed, collate, args=arguments, **unread, **common)


def unasked(*_: Any, **__: Any) -> list[float]:
    """The reward that a ``GRPOTrainer`` must have; advantages are made of stored scores."""
    raise PermanentError("TRL asked for a reward, though nothing is generated here that could be rewarded")


def schedule(optimizer: AdamW) -> LambdaLR:
    """The rates of ``optimizer``, whose own counts say where in the lineage and in the job it stands."""
    return LambdaLR(optimizer.adam, lambda _: optimizer.rate() / optimizer.config.learning_rate)


@contextlib.contextmanager
def unchanged(model: Any) -> Iterator[None]:
    """Keeps the configs as they are: transformers writes the tokenizer's special tokens into them."""
    kept = copy.deepcopy(model.config), copy.deepcopy(model.generation_config)
    try:
        yield
    finally:
        model.config, model.generation_config = kept


def _settings(config: TrainConfig, shape: Shape, updates: int, folder: Path, cpu: bool) -> dict[str, Any]:
    """What both trainers are told. Precision and recomputation are those of the local backend."""
    return {
        "output_dir": str(folder),
        "max_steps": updates,
        "per_device_train_batch_size": shape.rows,
        "gradient_accumulation_steps": shape.accumulation,
        "max_grad_norm": config.optimizer.gradient_clip,
        "seed": config.seed % 2**32,
        "use_cpu": cpu,
        "bf16": False,
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "report_to": [],
        "save_strategy": "no",
    }


def _policy_settings(config: OnPolicy, shape: Shape) -> dict[str, Any]:
    """The loss of an on-policy objective.

    A generation batch must hold whole groups of two or more, also where none is generated.
    """
    loss, together = loss_of(config), shape.rows * shape.accumulation
    return {
        "loss_type": loss.kind,
        "importance_sampling_level": loss.level,
        "epsilon": config.clip_low,
        "epsilon_high": epsilon_high(config),
        "delta": getattr(config, "dual_clip", None),
        "temperature": config.temperature,
        "max_completion_length": getattr(config, "max_tokens", None) or 1,
        "beta": 0.0,
        "num_generations": max(together, 2),
        "per_device_train_batch_size": max(shape.rows, 3 - together),
    }
