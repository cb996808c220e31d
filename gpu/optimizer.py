"""AdamW whose state travels from job to job by parameter name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rl.config import Optimizer
from rl.errors import InvalidInput, TrainingDiverged

MOMENTS = ("exp_avg", "exp_avg_sq")


def trained(model: Any) -> dict[str, Tensor]:
    """The parameters of a model that are trained, by name."""
    return {name: one for name, one in model.named_parameters() if one.requires_grad}


class AdamW:
    """AdamW over a model's trainable parameters, with the learning rate of its config at each step.

    ``step`` counts updates since the first job of the lineage: moments of a few updates are noise, and a
    round of a run has only two, so each job goes on from its parent's. ``done`` counts those of this job.
    """

    def __init__(self, model: Any, config: Optimizer, total: int, state: Mapping[str, Tensor], done: int = 0) -> None:
        self.config, self.total = config, max(total, 1)
        self.named = trained(model)
        self.params = list(self.named.values())
        self.adam = torch.optim.AdamW(
            self.params,
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.done = done
        self.step = self._resume(state) if state else 0

    def rate(self) -> float:
        """The learning rate of the next update: warm-up over the lineage's steps, cosine over this job's."""
        config = self.config
        warm = min(1.0, (self.step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
        if config.schedule == "constant":
            return config.learning_rate * warm
        falling = 0.5 * (1 + math.cos(math.pi * self.done / self.total))
        return config.learning_rate * warm * (config.final_share + (1 - config.final_share) * falling)

    def update(self, loss: float) -> float:
        """Clip, take one step and clear the gradients; returns their norm before clipping.

        Raises:
            TrainingDiverged: the loss or the norm is not finite; no parameter was changed.
        """
        norm = float(torch.nn.utils.clip_grad_norm_(self.params, self.config.gradient_clip))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingDiverged(
                f"step {self.step + 1}: loss {loss}, gradient norm {norm}; lower optimizer.learning_rate"
            )
        for group in self.adam.param_groups:
            group["lr"] = self.rate()
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        self.step += 1
        self.done += 1
        return norm

    def drop_gradients(self) -> None:
        """Forget what the backward passes since the last update have added up."""
        self.adam.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Moments by parameter name and the step count, ready for safetensors.

        A parameter that had no gradient in some steps has a count of its own.
        """
        saved = {"step": torch.tensor(self.step, dtype=torch.int64)}
        for name, parameter in self.named.items():
            moments: dict[str, Tensor] = self.adam.state.get(parameter) or {}
            for key in MOMENTS if moments else ():
                saved[f"{key}.{name}"] = moments[key].detach().contiguous()
            count = int(moments["step"]) if moments else 0
            if count != self.step:
                saved[f"step.{name}"] = torch.tensor(count, dtype=torch.int64)
        return saved

    def _resume(self, state: Mapping[str, Tensor]) -> int:
        step = int(state["step"])
        for name, parameter in self.named.items():
            count = int(state.get(f"step.{name}", state["step"]))
            if not count:
                continue
            first, second = state.get(f"exp_avg.{name}"), state.get(f"exp_avg_sq.{name}")
            if first is None or second is None or first.shape != parameter.shape:
                raise InvalidInput("parent", name, "its optimizer state does not fit the model; start without a parent")
            self.adam.state[parameter] = {
                "step": torch.tensor(float(count), device=parameter.device),
                "exp_avg": first.to(parameter.device, parameter.dtype),
                "exp_avg_sq": second.to(parameter.device, parameter.dtype),
            }
        return step
