"""KL divergence from the reference as a term of the loss."""

from __future__ import annotations

from torch import Tensor

from rl.kl import LIMIT
from rl.objective_parts import Estimator


def kl_estimate(logp: Tensor, ref_logp: Tensor, estimator: Estimator) -> Tensor:
    """KL(policy, reference) per token [T], in nats; see ``rl.kl.estimated``. A clamped token has no gradient."""
    d = logp - ref_logp
    match estimator:
        case "k1":
            value = d
        case "k2":
            value = d**2 / 2
        case "k3":
            # Past twice the limit the value is clamped anyway, and an infinite one would make its gradient NaN.
            value = (-d).clamp(max=2 * LIMIT).expm1() + d
    return value.clamp(-LIMIT, LIMIT)


def kl_penalty(
    logp: Tensor,
    ref_logp: Tensor,
    estimator: Estimator,
    coefficient: float,
    n_tokens: int | None = None,
    share: Tensor | None = None,
) -> Tensor:
    """``coefficient`` times the mean KL over the ``n_tokens`` tokens of the whole batch.

    With ``share`` [T] each term counts that much instead, as in a mean over samples of means over tokens.
    """
    kl = kl_estimate(logp, ref_logp, estimator)
    return coefficient * (kl.sum() / (n_tokens or max(len(kl), 1)) if share is None else (kl * share).sum())
