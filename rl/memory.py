"""What a training needs of a device's memory, in bytes, and what an attempt that ran out of it changes.

A training holds four things at once, for ``P`` parameters of which ``T`` are trained:

* weights: ``P`` times the width of one (4 bytes for float32, 2 for bfloat16, about a half in four bits);
* gradients: ``T`` times the width they are trained in;
* optimizer: Adam's two moments, twice the gradients;
* activations: what the backward pass needs of every token of a micro-batch, at least of one sequence.

One layer keeps of a token, with ``h`` the hidden size, ``f`` that of the feed-forward, ``q`` and ``k`` the widths of
all query and all key heads, and ``a`` bytes an activation:

* the inputs of its norms, always in float32: ``4 (2h + q + k)``;
* what its linear layers read: ``a (2h + q + f)``; where adapters are float32 on a narrower base each adapter keeps a
  float32 copy of its own input instead, ``4 (5h + q + f)``;
* gate, activation and up of the feed-forward, and queries, keys, values and the result of attention:
  ``a (3f + 2q + 2k)``;
* without adapters, what the norms' weights are multiplied with: ``a (2h + q + k)``.

The head adds three float32 arrays of a vocabulary's width (logits, log-softmax, its gradient) for each of at most
``HEAD_ROWS`` tokens. Buffers of single operations and what else lives on the device are not counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from rl.config import Train

GIB: Final = 1 << 30

HEAD_ROWS: Final = 4096
"""Tokens whose logits exist at the same time."""

SMALLEST_BUDGET: Final = 64
HALVINGS: Final = 3


@dataclass(frozen=True)
class Architecture:
    """The widths of a decoder. ``query`` and ``key`` are those of all heads together."""

    layers: int
    hidden: int
    feed_forward: int
    query: int
    key: int
    vocabulary: int


@dataclass(frozen=True)
class Need:
    """What one training holds on its device, in bytes, with micro-batches of a single sequence of ``tokens``."""

    tokens: int
    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """All of it at once."""
        return self.weights + self.gradients + self.optimizer + self.activations

    def __str__(self) -> str:
        """As people read it: in GiB, part by part."""
        parts = [("weights", self.weights), ("gradients", self.gradients), ("optimizer", self.optimizer)]
        listed = ", ".join(f"{name} {gib(size)}" for name, size in parts)
        longest = f"activations of one sequence of {self.tokens} tokens {gib(self.activations)}"
        return f"needs about {gib(self.total)} GiB: {listed}, {longest}"


def need(
    architecture: Architecture,
    *,
    weights: int,
    trained: int,
    tokens: int,
    activation_bytes: int = 4,
    adapters: bool = False,
) -> Need:
    """What a training needs with micro-batches of one sequence of ``tokens``.

    ``weights`` are the bytes of all parameters as they are kept, ``trained`` those of the parameters that are trained
    (all of them, or the adapters'), ``activation_bytes`` the width of an activation: 4 or 2.
    """
    return Need(
        tokens=tokens,
        weights=weights,
        gradients=trained,
        optimizer=2 * trained,
        activations=activations(architecture, tokens, activation_bytes, adapters),
    )


def activations(architecture: Architecture, tokens: int, width: int, adapters: bool) -> int:
    """Bytes that the backward pass needs of ``tokens``, by the formula above."""
    one = architecture
    h, f, q, k = one.hidden, one.feed_forward, one.query, one.key
    norms = 4 * (2 * h + q + k)
    inputs = 4 * (5 * h + q + f) if adapters and width < 4 else width * (2 * h + q + f)
    inner = width * (3 * f + 2 * q + 2 * k)
    scaled = 0 if adapters else width * (2 * h + q + k)
    head = 3 * 4 * one.vocabulary * min(tokens, HEAD_ROWS)
    return tokens * one.layers * (norms + inputs + inner + scaled) + head


def smaller(config: Mapping[str, object], original: Mapping[str, object], *, cuda: bool) -> dict[str, object] | None:
    """What the attempt after one that ran out of memory changes in its training config; None when nothing is left.

    ``config`` is the training config (as JSON) that ran out, ``original`` the one the job was made with. First the
    token budget is halved, at most ``HALVINGS`` times in all and never below ``SMALLEST_BUDGET``; then, on a CUDA
    device, an adapter's base is kept in four bits.
    """
    half = _budget(config) // 2
    if half >= SMALLEST_BUDGET and half >= _budget(original) >> HALVINGS:
        return {"token_budget": half}
    if cuda and config.get("lora") is not None and config.get("quantization") is None:
        return {"quantization": "4bit"}
    return None


def gib(size: int) -> str:
    """Bytes in GiB, with one decimal."""
    return f"{size / GIB:.1f}"


def _budget(config: Mapping[str, object]) -> int:
    return int(str(config.get("token_budget", Train.model_fields["token_budget"].default)))
