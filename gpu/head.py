"""Log-probabilities and entropies from hidden states, a few rows of logits at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from gpu.attention import inner
from rl.errors import InvalidInput

Head = Callable[[Tensor], Tensor]

CHUNK_BYTES = {"cpu": 64 << 20}
LARGE_CHUNK_BYTES = 512 << 20
"""Logits of one chunk, in 32 bits, by device type: a GPU needs many rows at once to be busy. A batch that needs no more
than one chunk keeps its logits for the backward pass."""

RESCALED = ("final_logit_softcapping", "logit_scale", "logits_scaling")


def output_layer(model: Any) -> Head:
    """The layer that makes logits [N, V] of hidden states [N, H], with its adapter if it has one.

    Raises:
        InvalidInput: the model caps or scales its logits behind that layer.
    """
    config = inner(model).config.get_text_config()
    for name in RESCALED:
        if getattr(config, name, None) not in (None, 1, 1.0):
            raise InvalidInput(name, getattr(config, name), "choose a base whose logits are those of its output layer")
    layer: Head = inner(model).get_output_embeddings()
    return layer


def log_probs(
    head: Head, hidden: Tensor, targets: Tensor, vocabulary: int, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """``log softmax(head(hidden) / temperature)`` at ``targets`` and the entropy of each row, nats, [N] each.

    ``hidden`` [N, H], ``targets`` [N]. Entropies are for reporting and carry no gradient. Where the logits of all
    rows exceed one chunk they are made in chunks, which the backward pass makes again: gradients stay exact,
    and no more than one chunk of logits ever exists.
    """
    chunk = CHUNK_BYTES.get(hidden.device.type, LARGE_CHUNK_BYTES)
    rows = max(chunk // (4 * vocabulary), 1)
    if len(targets) <= rows:
        return _scored(head, hidden, targets, temperature)
    pieces: list[tuple[Tensor, Tensor]] = [
        checkpoint(_scored, head, states, wanted, temperature, use_reentrant=False)
        for states, wanted in zip(torch.split(hidden, rows), torch.split(targets, rows), strict=True)
    ]
    return torch.cat([logp for logp, _ in pieces]), torch.cat([entropy for _, entropy in pieces])


def _scored(head: Head, hidden: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    logits = head(hidden).float()
    if temperature != 1.0:
        logits = logits.div_(temperature)
    scored: tuple[Tensor, Tensor] = _Scores.apply(logits, targets)  # type: ignore[no-untyped-call]
    return scored


class _Scores(torch.autograd.Function):
    """Log-softmax at one target a row, and entropy, with one exponential each way and one copy of the logits."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        top = logits.amax(-1, keepdim=True)
        weights = (logits - top).exp_()
        mass = weights.sum(-1)
        total = top[:, 0] + mass.log()
        entropy = total - weights.mul_(logits).sum(-1) / mass
        ctx.save_for_backward(logits, targets, total)
        ctx.mark_non_differentiable(entropy)
        return logits.gather(-1, targets[:, None])[:, 0] - total, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _entropy: Tensor) -> tuple[Tensor, None]:
        """The gradient, ``grad * (one at the target - softmax)``, takes the place of the logits."""
        logits, targets, total = ctx.saved_tensors
        gradient: Tensor = logits.sub_(total[:, None]).exp_().mul_(-grad[:, None])
        return gradient.scatter_add_(-1, targets[:, None], grad[:, None]), None
