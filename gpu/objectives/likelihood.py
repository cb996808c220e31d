"""Likelihood of what was said: cloning, cloning by weight, and curated data beside another objective."""

from __future__ import annotations

from torch import Tensor


def sft(logp: Tensor, spoken: Tensor, n_spoken: int, n_observed: int = 0, observation_weight: float = 0.0) -> Tensor:
    """Mean negative log-likelihood of spoken tokens, plus a weight times the mean over the observed ones.

    ``spoken`` [T] is 1 for the policy's tokens and 0 for those it read; ``n_spoken`` and ``n_observed``
    count them in the whole batch.
    """
    loss = -(logp * spoken).sum() / max(n_spoken, 1)
    if observation_weight and n_observed:
        loss = loss - observation_weight * (logp * (1 - spoken)).sum() / n_observed
    return loss


def weighted_sft(logp: Tensor, weight: Tensor, sample: Tensor, n_spoken: int) -> Tensor:
    """Negative log-likelihood times the weight of its trajectory, over the ``n_spoken`` tokens of the whole batch.

    ``weight`` [S] is a trajectory's (``rl/offline.py``) and ``sample`` [T] indexes it. The denominator counts tokens,
    not weights, so that a batch of good trajectories pulls harder than one of bad ones.
    """
    return -(logp * weight[sample]).sum() / max(n_spoken, 1)


def ptx(logp: Tensor, n_spoken: int, coefficient: float) -> Tensor:
    """``coefficient`` times the mean negative log-likelihood of curated tokens (InstructGPT, arXiv 2203.02155).

    ``logp`` [T] are the spoken tokens of curated trajectories, ``n_spoken`` all that the step takes.
    """
    return -coefficient * logp.sum() / max(n_spoken, 1)
