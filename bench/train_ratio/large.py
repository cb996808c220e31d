"""A 14B model on one GPU: exactness in 16 bits first, then how much of the device its training uses.

Sizes, lengths and device are arguments, so that the same code runs with a tiny model on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from bench.train_ratio import arithmetic, meter
from bench.train_ratio.arms import ours, padded
from bench.train_ratio.meter import Step
from bench.train_ratio.model import QWEN3_14B, RANK, Sizes, build, distance, gradient
from bench.train_ratio.workloads import Workload, apart, ragged

SPOKEN = 0.25
"""Agents read more than they say: the share of tokens that are scored."""


@dataclass(frozen=True)
class Scene:
    """What is trained: as many trajectories, of as many tokens each, in bins of at most ``budget`` tokens."""

    sizes: Sizes = QWEN3_14B
    dtype: torch.dtype = torch.bfloat16
    trajectories: int = 100
    length: int = 4096
    budget: int = 8192
    gemm: int = 8192


@dataclass(frozen=True)
class Bounds:
    """Gates of this part: of model FLOP/s in units of the GEMM's, of seconds an epoch, and of peak memory in bytes."""

    utilisation: float = 0.40
    epoch_seconds: float = 90.0
    peak_bytes: float = 105e9
    noise: float = 2.0


def exactness(sizes: Sizes, device: torch.device, dtype: torch.dtype, seed: int, share: float) -> dict[str, float]:
    """How far our gradient is from padded rows', and how far theirs is from itself, one row at a time in reverse."""
    model, work = build(sizes, seed, device, dtype), ragged(seed, sizes.vocabulary, share)
    reference = _gradient(model, padded(model, work))
    noise = distance(_gradient(model, padded(model, work.reversed(), rows_at_once=1)), reference)
    error = distance(_gradient(model, ours(model, work)), reference)
    return {"error": error, "noise": noise, "error_in_noise": error / noise}


def epoch(scene: Scene, device: torch.device, seed: int) -> dict[str, Any]:
    """Forward and backward of all trajectories once, and the share of the GEMM's rate that the model's FLOPs reach.

    Nothing is shared between trajectories, so every token is a unique one. Peak memory includes the weights.
    """
    rate = arithmetic.gemm_rate(device, scene.dtype, scene.gemm)
    model = build(scene.sizes, seed, device, scene.dtype)
    work, first = (_trajectories(scene, seed, count) for count in (scene.trajectories, scene.budget // scene.length))
    _gradient(model, ours(model, first, scene.budget))  # compiles what has to be
    held = sum(one.numel() * one.element_size() for one in model.parameters())
    step = ours(model, work, scene.budget)
    peak = held + meter.peak_bytes(ours(model, first, scene.budget), device)
    model.zero_grad(set_to_none=True)
    seconds = meter.seconds(step, device)
    tokens = scene.trajectories * scene.length
    flops = arithmetic.per_token(scene.sizes.architecture, RANK, scene.length, SPOKEN)
    return {
        "what": f"{scene.trajectories} trajectories x {scene.length} tokens, bins of {scene.budget}, {scene.dtype}",
        "model": str(scene.sizes),
        "gemm_flops": rate,
        "flops_per_token": flops.total,
        "epoch_seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "utilisation": tokens * flops.total / seconds / rate,
        "peak_bytes": peak,
    }


def _trajectories(scene: Scene, seed: int, count: int) -> Workload:
    spoken = int(SPOKEN * scene.length)
    return apart(seed, scene.sizes.vocabulary, scene.length - spoken, [spoken] * count)


def _gradient(model: Any, step: Step) -> torch.Tensor:
    step()
    return gradient(model)
