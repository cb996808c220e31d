"""AdamW whose state travels from job to job by parameter name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gpu import sharding
from gpu.objectives.value import PREFIX, ValueHead
from gpu.ranks import Ranks
from rl.config import Optimizer
from rl.errors import InvalidInput, TrainingDiverged

MOMENTS = ("exp_avg", "exp_avg_sq")


def trained(model: Any, value_head: ValueHead | None = None) -> dict[str, Tensor]:
    """The parameters of a model, and of its value head, that are trained, by name."""
    named: dict[str, Tensor] = {name: one for name, one in model.named_parameters() if one.requires_grad}
    return named | (value_head.named() if value_head else {})


class AdamW:
    """AdamW over a model's trainable parameters, with the learning rate of its config at each step.

    A ``value_head`` is trained beside them at ``value_rate``, under the same schedule. Its gradient is clipped apart:
    errors of a head that knows nothing would leave the policy none of the norm.

    ``step`` counts updates since the first job of the lineage: moments of a few updates are noise, and a
    round of a run has only two, so each job goes on from its parent's. ``done`` counts those of this job.
    """

    def __init__(
        self,
        model: Any,
        config: Optimizer,
        total: int,
        state: Mapping[str, Tensor],
        done: int = 0,
        value_head: ValueHead | None = None,
        value_rate: float | None = None,
    ) -> None:
        self.config, self.total = config, max(total, 1)
        self.value_head = value_head
        self.named = trained(model, value_head)
        groups = [{"params": list(trained(model).values()), "peak": config.learning_rate}]
        if value_head is not None:
            groups.append({"params": list(value_head.parameters()), "peak": value_rate or config.learning_rate})
        self.adam = torch.optim.AdamW(
            groups,
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.done = done
        self.step = self._resume(state) if state else 0

    def rate(self, peak: float | None = None) -> float:
        """The learning rate of the next update: warm-up over the lineage's steps, cosine over this job's.

        ``peak`` is the config's unless another is given.
        """
        config = self.config
        warm = min(1.0, (self.step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
        peak = config.learning_rate if peak is None else peak
        if config.schedule == "constant":
            return peak * warm
        falling = 0.5 * (1 + math.cos(math.pi * self.done / self.total))
        return peak * warm * (config.final_share + (1 - config.final_share) * falling)

    def update(self, loss: float) -> float:
        """Clip, take one step and clear the gradients; returns the norm of the model's before clipping.

        Raises:
            TrainingDiverged: the loss or the norm is not finite; no parameter was changed.
        """
        groups = self.adam.param_groups
        norms = [_clipped(one["params"], self.config.gradient_clip) for one in groups]
        norm = norms[0]
        if not all(map(math.isfinite, [loss, *norms])):
            raise TrainingDiverged(
                f"step {self.step + 1}: loss {loss}, gradient norm {max(norms)}; lower optimizer.learning_rate"
            )
        for group in groups:
            group["lr"] = self.rate(group["peak"])
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        self.step += 1
        self.done += 1
        return norm

    def gather(self, ranks: Ranks) -> None:
        """Add up over all processes what their backward passes did not: the gradients of the value head."""
        for parameter in () if self.value_head is None else self.value_head.parameters():
            if parameter.grad is not None:
                ranks.add(parameter.grad)

    def drop_gradients(self) -> None:
        """Forget what the backward passes since the last update have added up."""
        self.adam.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Moments by parameter name and the step count, ready for safetensors.

        A parameter that had no gradient in some steps has a count of its own. Of a sharded model all processes ask, and
        only the first gets the moments.
        """
        saved = {"step": torch.tensor(self.step, dtype=torch.int64)}
        for name, parameter in self.named.items():
            moments: dict[str, Tensor] = self.adam.state.get(parameter) or {}
            for key in MOMENTS if moments else ():
                saved[f"{key}.{name}"] = sharding.whole(moments[key]).contiguous()
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
            if self._is_new(name, state):
                continue
            first, second = state.get(f"exp_avg.{name}"), state.get(f"exp_avg_sq.{name}")
            if first is None or second is None or first.shape != parameter.shape:
                raise InvalidInput("parent", name, "its optimizer state does not fit the model; start without a parent")
            self.adam.state[parameter] = {
                "step": torch.tensor(float(count), device=parameter.device),
                "exp_avg": sharding.part(first, parameter),
                "exp_avg_sq": sharding.part(second, parameter),
            }
        return step

    def _is_new(self, name: str, state: Mapping[str, Tensor]) -> bool:
        """A value head that the parent did not have starts without moments."""
        return name.startswith(PREFIX) and f"exp_avg.{name}" not in state


def _clipped(parameters: list[Tensor], most: float) -> float:
    """The norm of the gradients before they were clipped; of sharded ones that of all parts."""
    return float(sharding.over_all(torch.nn.utils.clip_grad_norm_(parameters, most)))
