"""What a token costs a LoRA training step, in floating-point operations, and how fast a device multiplies."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bench.train_ratio import meter
from rl.memory import Architecture

FLASH_BACKWARD = 2.5
"""Attention's backward pass in units of its forward pass: five products for two, the scores once more."""
REPEATS = 20


@dataclass(frozen=True)
class Flops:
    """Operations of one token, on average over a sequence."""

    forward: float
    backward: float

    @property
    def total(self) -> float:
        """Both passes; nothing is computed twice but attention's scores."""
        return self.forward + self.backward


def parameters(one: Architecture, rank: int) -> tuple[int, int, int]:
    """Those that a token meets: of the body's linear layers, of the head, and of the adapters on the body."""
    h, f, q, k = one.hidden, one.feed_forward, one.query, one.key
    layers = [(h, q), (h, k), (h, k), (q, h), (h, f), (h, f), (f, h)]
    body = one.layers * sum(wide * high for wide, high in layers)
    adapters = one.layers * sum(rank * (wide + high) for wide, high in layers)
    return body, h * one.vocabulary, adapters


def per_token(one: Architecture, rank: int, length: int, scored: float) -> Flops:
    """Of sequences of ``length`` tokens of which the share ``scored`` needs logits.

    Two operations a parameter forward. Backward two through frozen weights, whose own gradient nobody needs, and four
    through adapters. Causal attention meets half of the sequence: ``2 length query`` a layer.
    """
    body, head, adapters = parameters(one, rank)
    frozen = 2 * (body + scored * head)
    attention = 2 * length * one.query * one.layers
    return Flops(frozen + attention + 2 * adapters, frozen + FLASH_BACKWARD * attention + 4 * adapters)


def gemm_rate(device: torch.device, dtype: torch.dtype, size: int = 8192) -> float:
    """Operations in a second of square matrix products, the fastest of ``REPEATS`` after as many to warm up."""
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))

    def multiply() -> None:
        torch.mm(left, right)

    for _ in range(REPEATS):
        multiply()
    return 2 * size**3 / min(meter.seconds(multiply, device) for _ in range(REPEATS))
