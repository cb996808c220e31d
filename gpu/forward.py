"""One padded batch of sequences through a model, and log-probabilities where they are needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache

HEAD_ROWS = 4096
SHARED_PREFIX = 16
"""A common prefix shorter than this is not worth a forward pass of its own."""


@dataclass(frozen=True)
class Terms:
    """Log-probability of each selected token with its row and column, [T] each; their summed entropy, nats."""

    logp: Tensor
    row: Tensor
    column: Tensor
    entropy: Tensor


def log_probs(model: Any, ids: Tensor, lengths: Tensor, selected: Tensor, temperature: float = 1.0) -> Terms:
    """``log softmax(logits / temperature)`` of every selected token given what stands before it.

    ``ids`` [B, L] are padded on the right, ``lengths`` [B], ``selected`` [B, L] is true for the tokens to
    score; the first token of a row has nothing before it and is never scored. Logits exist only there.
    """
    hidden = hidden_states(model, ids, int(lengths.min()))
    chosen = selected[:, 1:] & (torch.arange(1, ids.shape[1], device=ids.device) < lengths[:, None])
    row, before = chosen.nonzero(as_tuple=True)
    logp, entropy = _head(_inner(model).get_output_embeddings(), hidden[row, before], ids[row, before + 1], temperature)
    return Terms(logp, row, before + 1, entropy)


def hidden_states(model: Any, ids: Tensor, shortest: int) -> Tensor:
    """The body's last hidden states, [B, L, H]. A prefix that all rows share is computed once."""
    body = _inner(model).base_model
    shared = common_prefix(ids, shortest)
    if len(ids) == 1 or shared < SHARED_PREFIX or not _plain_attention(body.config):
        states: Tensor = body(input_ids=ids, use_cache=False).last_hidden_state
        return states
    cache = DynamicCache(config=body.config)
    first = body(input_ids=ids[:1, :shared], past_key_values=cache, use_cache=True).last_hidden_state
    for layer in cache.layers:
        layer.keys = layer.keys.expand(len(ids), -1, -1, -1)  # type: ignore[union-attr]
        layer.values = layer.values.expand(len(ids), -1, -1, -1)  # type: ignore[union-attr]
    rest = body(
        input_ids=ids[:, shared:],
        attention_mask=_causal(shared, ids.shape[1], ids.device),
        position_ids=torch.arange(shared, ids.shape[1], device=ids.device)[None],
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    return torch.cat([first.expand(len(ids), -1, -1), rest], dim=1)


def common_prefix(ids: Tensor, shortest: int) -> int:
    """How many leading tokens all rows share, leaving at least one of the shortest row."""
    same = (ids[:, : shortest - 1] == ids[:1, : shortest - 1]).all(0)
    return int(same.long().cumprod(0).sum())


def _causal(shared: int, length: int, device: torch.device) -> Tensor:
    """[1, 1, length - shared, length]: true where a token of the rest may look."""
    query = torch.arange(shared, length, device=device)
    return (torch.arange(length, device=device)[None] <= query[:, None])[None, None]


def _plain_attention(config: Any) -> bool:
    """Whether keys and values of a prefix are all that a layer remembers of it."""
    return all(kind == "full_attention" for kind in getattr(config, "layer_types", None) or [])


def _inner(model: Any) -> Any:
    """The transformers model inside a peft model; adapters are part of its layers."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


def _head(head: Any, hidden: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probabilities of ``targets`` [T] and their distributions' summed entropy, in chunks where T is large."""

    def score(states: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        logp = torch.log_softmax(head(states).float() / temperature, dim=-1)
        plain = logp.detach()
        return logp.gather(-1, wanted[:, None])[:, 0], -(plain.exp() * plain).sum()

    if len(targets) <= HEAD_ROWS:
        return score(hidden, targets)
    pieces = [
        checkpoint(score, states, wanted, use_reentrant=False)
        for states, wanted in zip(torch.split(hidden, HEAD_ROWS), torch.split(targets, HEAD_ROWS), strict=True)
    ]
    return torch.cat([p[0] for p in pieces]), torch.stack([p[1] for p in pieces]).sum()
