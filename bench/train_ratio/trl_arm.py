"""TRL's own ``GRPOTrainer`` on the very same peft model: its loss of one batch, and backward."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from bench.train_ratio.arms import CLIPS, plain_attention
from bench.train_ratio.meter import Step
from bench.train_ratio.workloads import Workload
from gpu.starter import train_tokenizer


def trl(model: Any, work: Workload) -> Step:
    """One call of ``_compute_loss`` on all rows and its backward; the batch's tensors are made beforehand.

    The loss is TRL's ``dapo``, the mean over completion tokens. TRL's default of gradient checkpointing is off, as in
    every other arm.
    """
    trainer, batch = _trainer(model, work), _inputs(work, model.device)
    batch["num_items_in_batch"] *= trainer.args.steps_per_generation

    def step() -> None:
        plain_attention(model)
        loss: Tensor = trainer._compute_loss(trainer.model, batch)
        loss.backward()  # type: ignore[no-untyped-call]

    return step


def _trainer(model: Any, work: Workload) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what TRL imports warns of itself
        datasets: Any = import_module("datasets")
        library: Any = import_module("trl")

        count = len(work.rows)
        args = library.GRPOConfig(
            output_dir=tempfile.gettempdir(),
            use_cpu=model.device.type == "cpu",
            bf16=False,
            gradient_checkpointing=False,
            report_to=[],
            per_device_train_batch_size=count,
            num_generations=count,
            max_completion_length=max(len(row.ids) for row in work.rows),
            loss_type="dapo",
            epsilon=CLIPS[0],
            epsilon_high=CLIPS[1],
        )
        trainer = library.GRPOTrainer(
            model,
            args=args,
            reward_funcs=lambda completions, **_: [0.0] * len(completions),
            train_dataset=datasets.Dataset.from_dict({"prompt": ["a b"] * count}),
            processing_class=train_tokenizer(["a b"], 300),
        )
    trainer.current_gradient_accumulation_steps = 1
    return trainer


def _inputs(work: Workload, device: torch.device) -> dict[str, Tensor]:
    """Prompts padded on the left, completions on the right."""
    prompts = [one.ids[:at] for one, at in zip(work.rows, work.prompts, strict=True)]
    said = [one.ids[at:] for one, at in zip(work.rows, work.prompts, strict=True)]
    old = [one.logprobs[at:] for one, at in zip(work.rows, work.prompts, strict=True)]
    inputs = {
        "prompt_ids": _stacked(prompts, "left"),
        "prompt_mask": _stacked([[1] * len(one) for one in prompts], "left"),
        "completion_ids": _stacked(said, "right"),
        "completion_mask": _stacked([[1] * len(one) for one in said], "right"),
        "old_per_token_logps": _stacked(old, "right"),
        "advantages": torch.tensor([work.advantages[at] for at in work.owner]),
        "num_items_in_batch": torch.tensor(float(work.spoken)),
    }
    return {name: one.to(device) for name, one in inputs.items()}


def _stacked(rows: Sequence[list[int]] | Sequence[list[float]], padding: str) -> Tensor:
    parts = [torch.tensor(one) for one in rows]
    return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_side=padding)
