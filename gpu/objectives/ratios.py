"""Importance ratios of tokens and samples, and the surrogate that clips them.

Every array has one entry a term, shape [T]: a token the policy is trained on, whatever sequence it came from.
"""

from __future__ import annotations

import torch
from torch import Tensor

EXPONENT_LIMIT = 20.0


def ratio(logp: Tensor, old_logp: Tensor) -> Tensor:
    """``exp(logp - old_logp)``, the exponent clamped to +-20."""
    return (logp - old_logp).clamp(-EXPONENT_LIMIT, EXPONENT_LIMIT).exp()


def clipped(
    logp: Tensor,
    old_logp: Tensor,
    advantage: Tensor,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
) -> Tensor:
    """``-min(rho A, clip(rho, 1 - low, 1 + high) A)`` per entry, rho = exp(logp - old_logp).

    With ``dual_clip`` = c > 1, where A < 0 it is at most ``-c A`` (arXiv 1912.09729, equation 5).
    """
    rho = ratio(logp, old_logp)
    surrogate = torch.minimum(rho * advantage, rho.clamp(1 - clip_low, 1 + clip_high) * advantage)
    if dual_clip is not None:
        surrogate = torch.where(advantage < 0, torch.maximum(surrogate, dual_clip * advantage), surrogate)
    return -surrogate


def sample_log_ratio(logp: Tensor, old_logp: Tensor, sample: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The sum of each sample's log-ratios and its number of terms, [n] each; ``sample`` [T] is below n."""
    count = torch.bincount(sample, minlength=n)
    total = torch.zeros(n, dtype=logp.dtype, device=logp.device).index_add(0, sample, logp - old_logp)
    return total, count


def of_samples(values: Tensor, sample: Tensor, n: int) -> Tensor:
    """Values [T] that are equal over a sample's terms, once a sample [n]; 0 for a sample without terms."""
    return values.new_zeros(n).index_copy(0, sample, values)


@torch.no_grad()
def drift(
    logp: Tensor, old_logp: Tensor, advantage: Tensor, clip_low: float, clip_high: float
) -> tuple[Tensor, Tensor]:
    """Sums over tokens of (old - new log-probability) and of the tokens whose ratio the clip held back."""
    rho = ratio(logp, old_logp)
    held = rho.clamp(1 - clip_low, 1 + clip_high) * advantage < rho * advantage
    return (old_logp - logp).sum(), held.sum()
