"""Policy-gradient losses on flat terms, with denominators of the whole batch.

``sample`` (or ``episode``) [T] says whose term it is, and a token that two samples share is two terms. ``weight`` [T]
multiplies each term's loss: what corrects for the engine's mismatch (``rl/mismatch.py``). The losses of micro-batches
add up to the batch's when the denominators of the batch are given; objectives with one ratio a sample need all
terms of a sample in one micro-batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gpu.objectives.ratios import clipped, of_samples, ratio, sample_log_ratio


def grpo(
    logp: Tensor,
    old_logp: Tensor,
    advantage: Tensor,
    episode: Tensor,
    n_episodes: int,
    clip_low: float,
    clip_high: float,
    episode_tokens: Tensor | None = None,
    dual_clip: float | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """Clipped token ratios, averaged over an episode's tokens and then over ``n_episodes`` episodes.

    ``episode`` [T] says whose token it is: an episode may span several sequences. ``episode_tokens``
    [max(episode) + 1] counts an episode's tokens where this call sees only some of them. GRPO's equation 3
    (arXiv 2402.03300) without its KL term, with separate clip widths (DAPO, arXiv 2503.14476).
    """
    share = per_episode(episode, n_episodes, logp.dtype, episode_tokens)
    loss = clipped(logp, old_logp, advantage, clip_low, clip_high, dual_clip)
    return (_weighted(loss, weight) * share).sum()


def per_episode(episode: Tensor, n_episodes: int, dtype: torch.dtype, episode_tokens: Tensor | None = None) -> Tensor:
    """What each term counts in a mean over episodes of means over tokens, [T]; see ``grpo``."""
    counts = torch.bincount(episode) if episode_tokens is None else episode_tokens
    return 1.0 / (counts.to(dtype)[episode] * n_episodes)


def ppo_token_mean(
    logp: Tensor,
    old_logp: Tensor,
    advantage: Tensor,
    clip_low: float,
    clip_high: float,
    n_tokens: int | None = None,
    dual_clip: float | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """Clipped token ratios averaged over all tokens of the batch.

    PPO (arXiv 1707.06347, equation 7), REINFORCE++-baseline, and DAPO (arXiv 2503.14476, equation 8).
    """
    loss = clipped(logp, old_logp, advantage, clip_low, clip_high, dual_clip)
    return _weighted(loss, weight).sum() / (n_tokens or max(len(logp), 1))


def dr_grpo(
    logp: Tensor,
    old_logp: Tensor,
    advantage: Tensor,
    n_samples: int,
    max_tokens: int,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """Clipped token ratios, summed and divided by a constant: ``n_samples * max_tokens`` (arXiv 2503.20783)."""
    loss = clipped(logp, old_logp, advantage, clip_low, clip_high, dual_clip)
    return _weighted(loss, weight).sum() / (n_samples * max_tokens)


def cispo(
    logp: Tensor,
    old_logp: Tensor,
    advantage: Tensor,
    clip_low: float,
    clip_high: float,
    n_tokens: int | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """``-clip(rho, 1 - low, 1 + high) A logp`` with the clipped ratio held constant, averaged over all tokens.

    MiniMax-M1 (arXiv 2506.13585, equation 4): a clipped token keeps its gradient, with a bounded weight.
    """
    rho = ratio(logp, old_logp).detach().clamp(1 - clip_low, 1 + clip_high)
    return _weighted(-rho * advantage * logp, weight).sum() / (n_tokens or max(len(logp), 1))


def gspo(
    logp: Tensor,
    old_logp: Tensor,
    advantage: Tensor,
    sequence: Tensor,
    clip_low: float,
    clip_high: float,
    n_sequences: int | None = None,
    dual_clip: float | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """One ratio a sequence: the exponential of its mean log-ratio, clipped, averaged over sequences.

    ``advantage`` [S] is per sequence and ``sequence`` [T] indexes it; a sequence without tokens counts 0, also in the
    denominator unless ``n_sequences`` gives that. GSPO (arXiv 2507.18071, equations 5 and 7).
    """
    total, count = sample_log_ratio(logp, old_logp, sequence, len(advantage))
    loss = clipped(total / count.clamp(min=1), torch.zeros_like(total), advantage, clip_low, clip_high, dual_clip)
    return _sample_mean(loss, count, n_sequences, weight, sequence)


def rloo(
    logp: Tensor,
    old_logp: Tensor,
    advantage: Tensor,
    sequence: Tensor,
    clip_low: float,
    clip_high: float,
    n_sequences: int | None = None,
    dual_clip: float | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """One ratio a sequence: that of its whole probability, clipped, averaged over sequences.

    Shapes as in ``gspo``. REINFORCE leave-one-out takes a sequence as a single action (arXiv 2402.14740, section 3).
    """
    total, count = sample_log_ratio(logp, old_logp, sequence, len(advantage))
    loss = clipped(total, torch.zeros_like(total), advantage, clip_low, clip_high, dual_clip)
    return _sample_mean(loss, count, n_sequences, weight, sequence)


def _weighted(loss: Tensor, weight: Tensor | None) -> Tensor:
    return loss if weight is None else loss * weight


def _sample_mean(loss: Tensor, count: Tensor, n_samples: int | None, weight: Tensor | None, sample: Tensor) -> Tensor:
    """The sum of ``loss`` [S] over samples with terms, over ``n_samples`` or how many those are."""
    if weight is not None:
        loss = loss * of_samples(weight, sample, len(loss))
    total = (loss * (count > 0)).sum()
    return total / ((count > 0).sum().clamp(min=1) if n_samples is None else n_samples)
