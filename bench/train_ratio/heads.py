"""Peak memory of log-probabilities over a real vocabulary: our chunked head beside full logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bench.train_ratio.meter import Step, peak_bytes
from gpu.head import log_probs

GATE = 0.15
ROWS, HIDDEN, VOCABULARY = 1024, 256, 151936
"""Qwen3's vocabulary, and the scored tokens of one bin."""


def measure(
    device: torch.device, seed: int, rows: int = ROWS, hidden: int = HIDDEN, vocabulary: int = VOCABULARY
) -> dict[str, Any]:
    """Bytes beyond weights and states that forward and backward of each head need at once, and their ratio."""
    generator = torch.Generator(device).manual_seed(seed)
    weight = torch.randn(vocabulary, hidden, generator=generator, device=device) * 0.02
    states = torch.randn(rows, hidden, generator=generator, device=device, requires_grad=True)
    targets = torch.randint(vocabulary, (rows,), generator=generator, device=device)

    def chunked() -> Tensor:
        return log_probs(lambda some: some @ weight.T, states, targets, vocabulary)[0]

    def full() -> Tensor:
        return -cross_entropy(states @ weight.T, targets, reduction="none")

    ours, theirs = (peak_bytes(_both_passes(head, states), device) for head in (chunked, full))
    return {
        "what": f"{rows} rows, hidden {hidden}, vocabulary {vocabulary}",
        "chunked_bytes": ours,
        "full_bytes": theirs,
        "ratio": ours / theirs,
    }


def _both_passes(head: Callable[[], Tensor], states: Tensor) -> Step:
    def step() -> None:
        torch.autograd.grad(head().sum(), states)

    return step
