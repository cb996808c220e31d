"""Preferences between trajectories, for logs without the log-probabilities of whoever spoke."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def dpo(
    logp: Tensor, ref_logp: Tensor, sample: Tensor, chosen: Tensor, rejected: Tensor, beta: float, n_pairs: int
) -> Tensor:
    """``-log sigmoid(beta (d_chosen - d_rejected))`` over ``n_pairs`` pairs, d = summed logp - ref_logp of a sample.

    ``logp``, ``ref_logp``, ``sample`` are [T], ``chosen`` and ``rejected`` [P] are numbers of samples, all of whose
    terms must be here. Direct preference optimisation (arXiv 2305.18290, equation 7).
    """
    d = logp.new_zeros(_samples(sample, chosen, rejected)).index_add(0, sample, logp - ref_logp)
    return -logsigmoid(beta * (d[chosen] - d[rejected])).sum() / max(n_pairs, 1)


@torch.no_grad()
def preferred(logp: Tensor, ref_logp: Tensor, sample: Tensor, chosen: Tensor, rejected: Tensor) -> Tensor:
    """How many pairs the policy orders as the scores do, relative to the reference; shapes as in ``dpo``."""
    d = logp.new_zeros(_samples(sample, chosen, rejected)).index_add(0, sample, logp - ref_logp)
    return (d[chosen] > d[rejected]).sum()


def _samples(*numbers: Tensor) -> int:
    return max((int(one.max()) + 1 for one in numbers if len(one)), default=0)
