"""One token a row from its logits, by the inverse of the cumulative distribution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def draw(logits: Tensor, temperatures: Sequence[float], uniform: Sequence[float]) -> tuple[list[int], list[float]]:
    """Tokens and their natural log-probabilities, from logits [B, V] and numbers in [0, 1), one a row.

    A row at temperature 0 takes the likeliest token, with its log-probability at temperature 1. The distribution is
    summed in 64 bits: in 32 the sum of a large vocabulary would differ from 1 by more than rare tokens have.
    """
    if not any(temperatures):
        likeliest = torch.log_softmax(logits.float(), dim=-1).max(-1)
        return likeliest.indices.tolist(), likeliest.values.tolist()
    heat, at = torch.tensor([temperatures, uniform], dtype=torch.float64).to(logits.device)[:, :, None]
    logp = torch.log_softmax(logits.float() / torch.where(heat > 0, heat, 1.0).float(), dim=-1)
    cumulative = logp.double().exp().cumsum(-1)
    drawn = torch.searchsorted(cumulative, at * cumulative[:, -1:], right=True).clamp(max=logp.shape[1] - 1)
    chosen = drawn if all(temperatures) else torch.where(heat > 0, drawn, logp.argmax(-1, keepdim=True))
    return chosen[:, 0].tolist(), logp.gather(-1, chosen)[:, 0].tolist()
