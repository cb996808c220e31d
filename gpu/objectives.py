"""Objectives: pure functions from flat per-token arrays to a scalar loss.

Every array has one entry for each token the policy is trained on, shape [T], whatever sequences the tokens
came from. A loss is a sum over tokens with fixed denominators, so that the losses of micro-batches add up
to the loss of the batch when the denominators of the whole batch are given.
"""

from __future__ import annotations

import torch
from torch import Tensor

EXPONENT_LIMIT = 20.0


def sft(logp: Tensor, spoken: Tensor, n_spoken: int, n_observed: int = 0, observation_weight: float = 0.0) -> Tensor:
    """Mean negative log-likelihood of spoken tokens, plus a weight times the mean over the observed ones.

    ``spoken`` [T] is 1 for the policy's tokens and 0 for those it read; ``n_spoken`` and ``n_observed``
    count them in the whole batch.
    """
    loss = -(logp * spoken).sum() / max(n_spoken, 1)
    if observation_weight and n_observed:
        loss = loss - observation_weight * (logp * (1 - spoken)).sum() / n_observed
    return loss


def grpo(
    logp: Tensor,
    old_logp: Tensor,
    advantage: Tensor,
    episode: Tensor,
    n_episodes: int,
    clip_low: float,
    clip_high: float,
    episode_tokens: Tensor | None = None,
) -> Tensor:
    """Clipped token ratios, averaged over an episode's tokens and then over ``n_episodes`` episodes.

    ``episode`` [T] says whose token it is: an episode may span several sequences. ``episode_tokens``
    [max(episode) + 1] counts an episode's tokens where this call sees only some of them. GRPO's equation 3
    (arXiv 2402.03300) without its KL term, with separate clip widths (DAPO, arXiv 2503.14476).
    """
    counts = torch.bincount(episode) if episode_tokens is None else episode_tokens
    weight = 1.0 / (counts.to(logp.dtype)[episode] * n_episodes)
    return (clipped(logp, old_logp, advantage, clip_low, clip_high) * weight).sum()


def ppo_token_mean(
    logp: Tensor, old_logp: Tensor, advantage: Tensor, clip_low: float, clip_high: float, n_tokens: int | None = None
) -> Tensor:
    """Clipped token ratios averaged over all tokens of the batch (PPO, arXiv 1707.06347, equation 7)."""
    return clipped(logp, old_logp, advantage, clip_low, clip_high).sum() / (n_tokens or max(len(logp), 1))


def gspo(
    logp: Tensor, old_logp: Tensor, advantage: Tensor, sequence: Tensor, clip_low: float, clip_high: float
) -> Tensor:
    """One ratio a sequence: the exponential of its mean log-ratio, clipped, averaged over sequences.

    ``advantage`` [S] is per sequence and ``sequence`` [T] indexes it; a sequence without tokens counts 0.
    GSPO (arXiv 2507.18071, equations 5 and 7).
    """
    n = len(advantage)
    count = torch.bincount(sequence, minlength=n)
    total = torch.zeros(n, dtype=logp.dtype, device=logp.device).index_add(0, sequence, logp - old_logp)
    ratio = total / count.clamp(min=1)
    zero = torch.zeros_like(ratio)
    loss = clipped(ratio, zero, advantage, clip_low, clip_high) * (count > 0)
    return loss.sum() / (count > 0).sum().clamp(min=1)


def clipped(logp: Tensor, old_logp: Tensor, advantage: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """``-min(rho A, clip(rho, 1 - low, 1 + high) A)`` per entry, rho = exp(logp - old_logp)."""
    rho = (logp - old_logp).clamp(-EXPONENT_LIMIT, EXPONENT_LIMIT).exp()
    return -torch.minimum(rho * advantage, rho.clamp(1 - clip_low, 1 + clip_high) * advantage)


@torch.no_grad()
def drift(
    logp: Tensor, old_logp: Tensor, advantage: Tensor, clip_low: float, clip_high: float
) -> tuple[Tensor, Tensor]:
    """Sums over tokens of (old - new log-probability) and of the tokens whose ratio the clip held back."""
    rho = (logp - old_logp).clamp(-EXPONENT_LIMIT, EXPONENT_LIMIT).exp()
    held = rho.clamp(1 - clip_low, 1 + clip_high) * advantage < rho * advantage
    return (old_logp - logp).sum(), held.sum()
