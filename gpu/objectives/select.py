"""The loss that a config asks for, from one micro-batch's terms and the whole batch's denominators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpu.objectives.penalties import kl_penalty
from gpu.objectives.policy import cispo, dr_grpo, grpo, gspo, ppo_token_mean, rloo
from gpu.objectives.ratios import of_samples
from rl.errors import InvalidInput
from rl.objectives import Cispo, Dapo, DrGrpo, Grpo, Gspo, OnPolicy, Ppo, ReinforceBaseline, Rloo


@dataclass(frozen=True)
class Terms:
    """What a micro-batch is trained on, [T] each; ``weight`` and ``ref_logp`` where the config asks for them.

    ``sample`` numbers the trajectories of the whole batch.
    """

    logp: Tensor
    old_logp: Tensor
    advantage: Tensor
    sample: Tensor
    ref_logp: Tensor | None = None
    weight: Tensor | None = None


@dataclass(frozen=True)
class Whole:
    """Denominators of the whole batch: ``sample_tokens`` [S] counts each trajectory's terms, 0 for one without."""

    n_tokens: int
    n_samples: int
    sample_tokens: Tensor

    @classmethod
    def of(cls, sample_tokens: Sequence[int], device: torch.device | str = "cpu") -> Whole:
        """From the number of terms of each trajectory; those without terms count in no mean."""
        spoke = sum(count > 0 for count in sample_tokens)
        return cls(sum(sample_tokens), spoke, torch.tensor(sample_tokens, dtype=torch.long, device=device))


def policy_loss(config: OnPolicy, terms: Terms, whole: Whole) -> Tensor:
    """The policy's loss of ``config``, without KL, values or curated data.

    Raises:
        InvalidInput: no loss is written for this config.
    """
    arrays, clips = (terms.logp, terms.old_logp), (config.clip_low, config.clip_high)
    advantage, sample, weight = terms.advantage, terms.sample, terms.weight
    match config:
        case Grpo(dual_clip=dual):
            return grpo(*arrays, advantage, sample, whole.n_samples, *clips, whole.sample_tokens, dual, weight)
        case Dapo(dual_clip=dual) | Ppo(dual_clip=dual) | ReinforceBaseline(dual_clip=dual):
            return ppo_token_mean(*arrays, advantage, *clips, whole.n_tokens, dual, weight)
        case DrGrpo(dual_clip=dual):
            return dr_grpo(*arrays, advantage, whole.n_samples, config.max_tokens, *clips, dual, weight)
        case Cispo():
            return cispo(*arrays, advantage, *clips, whole.n_tokens, weight)
        case Gspo(dual_clip=dual) | Rloo(dual_clip=dual):
            loss = gspo if isinstance(config, Gspo) else rloo
            of_each = of_samples(advantage, sample, len(whole.sample_tokens))
            return loss(*arrays, of_each, sample, *clips, whole.n_samples, dual, weight)
    raise InvalidInput("objective", type(config).__name__, "write its loss in gpu/objectives/select.py")


def kl_loss(config: OnPolicy, terms: Terms, whole: Whole, coefficient: float) -> Tensor | None:
    """``coefficient`` (the adaptive one's present value) times the mean KL over the batch's tokens.

    None where ``config`` has no KL in its loss.

    Raises:
        InvalidInput: the terms carry no log-probabilities of the reference.
    """
    if config.kl is None or config.kl.place != "loss":
        return None
    if terms.ref_logp is None:
        raise InvalidInput("ref_logp", None, "score the tokens under the reference model for kl.place = loss")
    return kl_penalty(terms.logp, terms.ref_logp, config.kl.estimator, coefficient, whole.n_tokens)
