"""The loss of one bin under a config, and what is counted of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from gpu import objectives
from gpu.episodes import Bin, Episode, Together
from gpu.objectives.ratios import sample_log_ratio
from gpu.terms import Scored
from rl.config import OnPolicyTrain, TrainConfig
from rl.errors import InvalidInput, PermanentError
from rl.objectives import Dpo, Ppo, Sft, WeightedSft

Sums = dict[str, float]
SAMPLE_RATIOS = ("sequence mean", "sequence")


def together(config: TrainConfig) -> Together | None:
    """What the loss needs whole in one bin."""
    if isinstance(config, Dpo):
        return "group"
    return "episode" if config.ratio in SAMPLE_RATIOS else None


class Losses:
    """Losses of the bins of one batch, whose denominators are of the whole batch.

    ``kl_coefficient`` multiplies the KL in the loss.
    """

    def __init__(self, config: TrainConfig, batch: Sequence[Episode], kl_coefficient: float, device: torch.device):
        self.config, self.batch, self.kl_coefficient, self.device = config, batch, kl_coefficient, device

    @cached_property
    def whole(self) -> objectives.Whole:
        """The batch's denominators."""
        return objectives.Whole.of([episode.spoken for episode in self.batch], self.device)

    def of(self, one: Bin, scored: Scored) -> tuple[Tensor, Sums]:
        """The loss of a bin, and sums over its terms."""
        match self.config:
            case Sft() | WeightedSft():
                return self._clone(self.config, one, scored), {}
            case Dpo():
                return self._prefer(self.config, one, scored)
        return self._reinforce(self.config, one, scored)

    def _clone(self, config: Sft | WeightedSft, one: Bin, scored: Scored) -> Tensor:
        spoken = self.whole.n_tokens
        if isinstance(config, Sft):
            observed = sum(episode.length for episode in self.batch) - spoken
            return objectives.sft(scored.logp, scored.spoken.float(), spoken, observed, config.observation_weight)
        weight = torch.tensor([episode.weight for episode in self.batch], device=self.device)
        return objectives.weighted_sft(scored.logp, weight, self._episode(one), spoken)

    def _prefer(self, config: Dpo, one: Bin, scored: Scored) -> tuple[Tensor, Sums]:
        """Pairs stand in the batch as chosen, rejected, chosen, rejected."""
        episode = self._episode(one)
        chosen = torch.unique(episode[episode % 2 == 0])
        if not torch.equal(chosen + 1, torch.unique(episode[episode % 2 == 1])):
            raise PermanentError("a pair of episodes was cut into two bins")
        reference = _there(one.gather("reference", self.device))
        pairs = (scored.logp, reference, episode, chosen, chosen + 1)
        loss = objectives.dpo(*pairs, config.beta, len(self.batch) // 2)
        with torch.no_grad():
            return loss, {"preferred": float(objectives.preferred(*pairs))}

    def _reinforce(self, config: OnPolicyTrain, one: Bin, scored: Scored) -> tuple[Tensor, Sums]:
        terms = self._terms(one, scored)
        loss = objectives.policy_loss(config, terms, self.whole)
        penalty = objectives.kl_loss(config, terms, self.whole, self.kl_coefficient)
        loss = loss if penalty is None else loss + penalty
        sums = _drift(config, terms, len(self.batch)) | {"entropy": float(scored.entropy.detach().sum())}
        if isinstance(config, Ppo):
            error = self._value_loss(config, one, scored)
            loss, sums["value_loss"] = loss + config.value_coefficient * error, float(error.detach())
        return loss, sums | self._gap(one, scored)

    def _terms(self, one: Bin, scored: Scored) -> objectives.Terms:
        """What the bin is trained on: known by the token where it is, else by the episode."""
        episode = self._episode(one)
        old, advantage = one.gather("old_logp", self.device), one.gather("advantage", self.device)
        if advantage is None:
            advantage = torch.tensor([each.advantage for each in self.batch], device=self.device)[episode]
        old = scored.old_logp if old is None else old
        reference, weight = one.gather("reference", self.device), one.gather("weight", self.device)
        return objectives.Terms(scored.logp, old, advantage, episode, reference, weight)

    def _value_loss(self, config: Ppo, one: Bin, scored: Scored) -> Tensor:
        value = _there(scored.value)
        before, returns = _there(one.gather("value", self.device)), _there(one.gather("returns", self.device))
        return objectives.value_loss(value, before, returns, self.whole.n_tokens, config.value_clip)

    @torch.no_grad()
    def _gap(self, one: Bin, scored: Scored) -> Sums:
        """How far the trainer's log-probabilities are from the engine's, over terms that this very policy spoke."""
        current = torch.tensor([each.staleness == 0 for each in self.batch], device=self.device)
        gap = (scored.logp - scored.old_logp).abs() * current[self._episode(one)]
        return {"engine_gap": float(gap.sum())}

    def _episode(self, one: Bin) -> Tensor:
        return torch.from_numpy(one.episode()).to(self.device)


def _there(values: Tensor | None) -> Tensor:
    if values is None:
        raise InvalidInput("known", None, "prepare the episodes before the first update")
    return values


@torch.no_grad()
def _drift(config: OnPolicyTrain, terms: objectives.Terms, samples: int) -> Sums:
    """Sums over terms: how far the policy is from the one that spoke and from the reference, and what clips held."""
    clips = (config.clip_low, config.clip_high)
    kl, held = objectives.drift(terms.logp, terms.old_logp, terms.advantage, *clips)
    if config.ratio in SAMPLE_RATIOS:
        ratio = _sample_log_ratio(terms, samples, config)
        _, held = objectives.drift(ratio, torch.zeros_like(ratio), terms.advantage, *clips)
    found = {"kl": float(kl), "clip_share": float(held)}
    if config.kl is not None and terms.ref_logp is not None:
        estimate = objectives.kl_estimate(terms.logp, terms.ref_logp, config.kl.estimator)
        found["reference_kl"] = float(estimate.sum())
    return found


def _sample_log_ratio(terms: objectives.Terms, samples: int, config: OnPolicyTrain) -> Tensor:
    """The log-ratio that a sample is clipped by, at each of its terms, [N]."""
    total, count = sample_log_ratio(terms.logp, terms.old_logp, terms.sample, samples)
    return (total / count.clamp(min=1) if config.ratio == "sequence mean" else total)[terms.sample]
