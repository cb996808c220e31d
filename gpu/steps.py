"""Optimizer steps: gradients of a batch bin by bin, and one update.

A step that runs out of memory is done again with smaller bins. Its gradients were thrown away, and losses are sums
with denominators of the whole batch, so the update is the same but for rounding.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from gpu import objectives
from gpu.bins import Layout, cost, measure, pack
from gpu.data import Episode
from gpu.device import capacity, free_unused, named_failures
from gpu.layouts import choose
from gpu.objectives.ratios import sample_log_ratio
from gpu.optimizer import AdamW
from gpu.policy import Policy
from gpu.terms import Scored, score
from gpu.tries import Trie
from rl import memory
from rl.config import OnPolicyTrain, SftTrain, TrainConfig
from rl.errors import InvalidInput, OutOfMemory
from rl.kl import adapted
from rl.objectives import Cloning, WeightedSft
from rl.records import Sequence as TokenSequence

log = logging.getLogger(__name__)

Sums = dict[str, float]
Groups = list[list[tuple[TokenSequence, int]]]
"""Sequences with the place of their episode in the batch."""

UNBOUNDED = 1 << 62
PER_TOKEN = ("kl", "clip_share", "entropy", "reference_kl")
KL_COEFFICIENT = "kl_coefficient"
SAMPLE_RATIOS = ("sequence mean", "sequence")


class Steps:
    """The steps of one training on the policy's device, whose lock is taken for one bin of tokens at a time.

    ``token_budget`` is the config's until memory runs out, ``shrunk`` how often it has been lowered. ``layout`` is how
    bins are computed, ``why`` the reason for it, and ``shares`` counts the tokens of ``episodes``, of which every
    batch is made. ``kl_coefficient`` multiplies the KL from the reference, 0 without one.

    Raises:
        InvalidInput: the objective needs an episode whole in one bin, and one does not fit into the token budget; or
            an adaptive coefficient could turn negative.
    """

    def __init__(
        self,
        model: Any,
        optimizer: AdamW,
        config: TrainConfig,
        policy: Policy,
        episodes: Sequence[Episode],
    ) -> None:
        self.model, self.optimizer, self.config, self.policy = model, optimizer, config, policy
        self.token_budget = config.token_budget
        self.shrunk = 0
        self.shares = measure(_sequences(_groups(episodes)))
        self.layout, self.why = choose(model, self.shares.prefix)
        self._refuse_cut(episodes)
        self.kl = None if isinstance(config, Cloning) else config.kl
        self.kl_coefficient = self.kl.coefficient if self.kl else 0.0
        self.largest_batch = _largest_batch(config, len(episodes))
        self._adapted(0.0, self.largest_batch)

    @property
    def adaptive(self) -> bool:
        """Whether the KL's coefficient changes from update to update."""
        return self.kl is not None and self.kl.target is not None

    def carried(self) -> dict[str, Tensor]:
        """What the next training of the lineage goes on from, beside the optimizer's state."""
        return {KL_COEFFICIENT: torch.tensor(self.kl_coefficient, dtype=torch.float64)} if self.adaptive else {}

    def go_on(self, carried: Mapping[str, Tensor]) -> None:
        """Take an adaptive coefficient from the parent's; a fixed one is the config's."""
        if self.adaptive and KL_COEFFICIENT in carried:
            self.kl_coefficient = float(carried[KL_COEFFICIENT])

    def run(self, batch: list[Episode]) -> Sums:
        """One update on ``batch`` and its metrics; an empty batch changes nothing.

        Raises:
            TrainingDiverged: the loss or the gradient is not finite; no parameter was changed.
            OutOfMemory: a single sequence does not fit; says what it would need.
        """
        while (metrics := self._tried(batch)) is None:
            self._shrink(batch)
        return metrics

    def _tried(self, batch: list[Episode]) -> Sums | None:
        """The metrics of the step; None when memory ran out. What the failed one held is free once this returns."""
        try:
            return self._step(batch)
        except OutOfMemory as error:
            log.warning("token budget %d: %s", self.token_budget, error.__cause__)
            return None

    def _step(self, batch: list[Episode]) -> Sums:
        began, sums = time.perf_counter(), defaultdict[str, float](float)
        whole = objectives.Whole.of([episode.spoken for episode in batch], self.policy.device)
        for one, owner in self._bins(batch):
            with self.policy.lock, named_failures("training"):
                reference = self._reference(one) if self.kl else None
                terms = score(self.model, one, self.layout, self._temperature)
                episode = owner[terms.sample]
                if isinstance(self.config, Cloning):
                    _clone(terms, episode, batch, self.config, sums)
                else:
                    self._reinforce(self.config, terms, reference, episode, batch, whole, sums)
        with self.policy.lock, named_failures("training"):
            norm = self.optimizer.update(sums["loss"]) if batch else 0.0
        tokens = sum(episode.length for episode in batch)
        per_token = {key: sums[key] / max(whole.n_tokens, 1) for key in PER_TOKEN if key in sums}
        self.kl_coefficient = self._adapted(per_token.get("reference_kl"), len(batch))
        seconds = time.perf_counter() - began
        return {"loss": sums["loss"], **per_token, "gradient_norm": norm, "tokens_per_second": tokens / seconds}

    def _reference(self, one: Trie) -> Tensor:
        """Log-probabilities of the bin's terms under the base without its adapter, [N]."""
        with torch.no_grad(), self.model.disable_adapter():
            return score(self.model, one, self.layout, self._temperature).logp

    def _adapted(self, reference_kl: float | None, episodes: int) -> float:
        """The coefficient after an update on ``episodes`` at that mean KL a token, nats."""
        kl = self.kl
        if kl is None or kl.target is None or kl.horizon is None or reference_kl is None:
            return self.kl_coefficient
        return adapted(self.kl_coefficient, reference_kl, episodes, kl.target, kl.horizon)

    def _reinforce(
        self,
        config: OnPolicyTrain,
        scored: Scored,
        reference: Tensor | None,
        episode: Tensor,
        batch: list[Episode],
        whole: objectives.Whole,
        sums: Sums,
    ) -> None:
        """Add the policy gradient of one bin, whose terms are those of ``episode`` [N]."""
        advantage = torch.tensor([one.advantage for one in batch], device=episode.device)[episode]
        terms = objectives.Terms(scored.logp, scored.old_logp, advantage, episode, reference)
        loss = objectives.policy_loss(config, terms, whole)
        penalty = objectives.kl_loss(config, terms, whole, self.kl_coefficient)
        loss = loss if penalty is None else loss + penalty
        loss.backward()  # type: ignore[no-untyped-call]
        sums["loss"] += float(loss.detach())
        sums["entropy"] += float(scored.entropy.detach().sum())
        for name, value in _drift(config, terms, len(batch)).items():
            sums[name] += float(value)

    @property
    def _temperature(self) -> float:
        return 1.0 if isinstance(self.config, Cloning) else self.config.temperature

    def _bins(self, batch: list[Episode]) -> list[tuple[Trie, Tensor]]:
        """The batch's bins, each with the episode in the batch of every sample that may be in it."""
        observed = isinstance(self.config, SftTrain) and self.config.observation_weight > 0
        bins: list[tuple[Trie, Tensor]] = []
        for groups in _apart(_groups(batch), self.layout) if self._samples_whole else [_groups(batch)]:
            owner = torch.tensor([place for group in groups for _, place in group], device=self.policy.device)
            packed = pack(_sequences(groups), self.token_budget, self.layout, observed=observed)
            bins += [(one, owner) for one in packed]
        return bins

    @property
    def _samples_whole(self) -> bool:
        """Whether the loss needs all tokens of an episode in one bin."""
        return self.config.ratio in SAMPLE_RATIOS

    def _least_budget(self, episodes: Sequence[Episode]) -> int:
        """The tokens of the largest bin that cannot be cut."""
        if self._samples_whole:
            return max((_tokens_together(one.sequences, self.layout) for one in episodes), default=0)
        return max((len(one.ids) for episode in episodes for one in episode.sequences), default=0)

    def _refuse_cut(self, episodes: Sequence[Episode]) -> None:
        several = [one for one in episodes if len(one.sequences) > 1] if self._samples_whole else []
        least = self._least_budget(several)
        if least > self.token_budget:
            remedy = f"{self.config.objective} needs all sequences of an episode at once; set at least {least}"
            raise InvalidInput("config.token_budget", self.token_budget, remedy)

    def _shrink(self, batch: list[Episode]) -> None:
        """Halve the budget, from the largest bin that there was down to the longest sequence."""
        self.optimizer.drop_gradients()
        with self.policy.lock:
            free_unused(self.policy.device)
        longest = self._least_budget(batch)
        largest = max((cost(one, self.layout) for one, _ in self._bins(batch)), default=0)
        if largest <= longest:
            raise OutOfMemory(self._too_much(longest))
        self.token_budget = max(min(self.token_budget, largest) // 2, longest)
        self.shrunk += 1
        log.warning("going on with a token budget of %d", self.token_budget)

    def _too_much(self, tokens: int) -> str:
        device = self.policy.device
        named = self.optimizer.named
        found = memory.need(
            _architecture(self.model),
            weights=sum(one.numel() * one.element_size() for one in self.model.parameters()),
            trained=sum(one.numel() * one.element_size() for one in named.values()),
            tokens=tokens,
            activation_bytes=self.model.dtype.itemsize,
            adapters=self.config.lora is not None,
        )
        remedies = ["train on shorter sequences", "use a device with more memory"]
        if self.config.lora is None:
            remedies.insert(0, "train an adapter (lora)")
        elif self.config.quantization is None and device.type == "cuda":
            remedies.insert(0, "keep the base in four bits (quantization = 4bit)")
        return f"training {found}, and {device} has {memory.gib(capacity(device))} GiB: {', or '.join(remedies)}"


def _groups(episodes: Sequence[Episode]) -> Groups:
    """The sequences of each group with the place of their episode, groups in order of their first one."""
    found: dict[str, list[tuple[TokenSequence, int]]] = {}
    for place, episode in enumerate(episodes):
        found.setdefault(episode.group, []).extend((one, place) for one in episode.sequences)
    return list(found.values())


def _sequences(groups: Groups) -> list[list[TokenSequence]]:
    return [[one for one, _ in group] for group in groups]


def _apart(groups: Groups, layout: Layout) -> list[Groups]:
    """What to pack at once so that no episode is cut: one of several sequences is a group of its own.

    Groups that fit stay together in a trie. Padded rows go by length, so there each group is packed alone.
    """
    cut: Groups = []
    for group in groups:
        episodes = [list(one) for _, one in groupby(group, key=itemgetter(1))]
        cut += [group] if len(episodes) == len(group) else episodes
    return [[group] for group in cut] if layout == "padded" else [cut]


def _tokens_together(sequences: list[TokenSequence], layout: Layout) -> int:
    if len(sequences) == 1:
        return len(sequences[0].ids)
    return sum(cost(one, layout) for one in pack([sequences], UNBOUNDED, layout))


def _clone(terms: Scored, episode: Tensor, batch: list[Episode], config: SftTrain | WeightedSft, sums: Sums) -> None:
    """Add the gradient of one bin that is cloned, whose terms are those of ``episode`` [N]."""
    n_spoken = sum(one.spoken for one in batch)
    if isinstance(config, SftTrain):
        n_observed = sum(one.length for one in batch) - n_spoken
        loss = objectives.sft(terms.logp, terms.spoken.float(), n_spoken, n_observed, config.observation_weight)
    else:
        weight = torch.tensor([one.weight for one in batch], device=episode.device)
        loss = objectives.weighted_sft(terms.logp, weight, episode, n_spoken)
    loss.backward()  # type: ignore[no-untyped-call]
    sums["loss"] += float(loss.detach())


def _largest_batch(config: TrainConfig, episodes: int) -> int:
    return min(config.batch_episodes, episodes) if isinstance(config, Cloning) else -(-episodes // config.mini_batches)


@torch.no_grad()
def _drift(config: OnPolicyTrain, terms: objectives.Terms, samples: int) -> dict[str, Tensor]:
    """Sums over terms: how far the policy is from the one that spoke and from the reference, and what clips held."""
    clips = (config.clip_low, config.clip_high)
    kl, held = objectives.drift(terms.logp, terms.old_logp, terms.advantage, *clips)
    if config.ratio in SAMPLE_RATIOS:
        ratio = _sample_log_ratio(terms, samples, config)
        _, held = objectives.drift(ratio, torch.zeros_like(ratio), terms.advantage, *clips)
    found = {"kl": kl, "clip_share": held}
    if config.kl is not None and terms.ref_logp is not None:
        found["reference_kl"] = objectives.kl_estimate(terms.logp, terms.ref_logp, config.kl.estimator).sum()
    return found


def _sample_log_ratio(terms: objectives.Terms, samples: int, config: OnPolicyTrain) -> Tensor:
    """The log-ratio that a sample is clipped by, at each of its terms, [N]."""
    total, count = sample_log_ratio(terms.logp, terms.old_logp, terms.sample, samples)
    return (total / count.clamp(min=1) if config.ratio == "sequence mean" else total)[terms.sample]


def _architecture(model: Any) -> memory.Architecture:
    """The widths of a transformers model, or of the one inside a peft model."""
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return memory.Architecture(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        feed_forward=config.intermediate_size,
        query=heads * size,
        key=(getattr(config, "num_key_value_heads", None) or heads) * size,
        vocabulary=config.vocab_size,
    )
