"""Optimizer steps: gradients of a batch bin by bin, and one update.

A step that runs out of memory is done again with smaller bins. Its gradients were thrown away, and losses are sums
with denominators of the whole batch, so the update is the same but for rounding.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gpu import objectives
from gpu.bins import cost, measure, pack
from gpu.data import Episode
from gpu.device import capacity, free_unused, named_failures
from gpu.layouts import choose
from gpu.optimizer import AdamW
from gpu.policy import Policy
from gpu.terms import Scored, score
from gpu.tries import Trie
from rl import memory
from rl.config import GrpoTrain, SftTrain
from rl.errors import OutOfMemory
from rl.records import Sequence as TokenSequence

log = logging.getLogger(__name__)

Sums = dict[str, float]


class Steps:
    """The steps of one training on the policy's device, whose lock is taken for one bin of tokens at a time.

    ``token_budget`` is the config's until memory runs out, ``shrunk`` how often it has been lowered. ``layout`` is how
    bins are computed, ``why`` the reason for it, and ``shares`` counts the tokens of ``episodes``, of which every
    batch is made.
    """

    def __init__(
        self,
        model: Any,
        optimizer: AdamW,
        config: SftTrain | GrpoTrain,
        policy: Policy,
        episodes: Sequence[Episode],
    ) -> None:
        self.model, self.optimizer, self.config, self.policy = model, optimizer, config, policy
        self.token_budget = config.token_budget
        self.shrunk = 0
        self.shares = measure([[one for one, _ in group] for group in _groups(episodes)])
        self.layout, self.why = choose(model, self.shares.prefix)

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
        bins, owner = self._bins(batch)
        for one in bins:
            with self.policy.lock, named_failures("training"):
                terms = score(self.model, one, self.layout, self._temperature)
                episode = owner[terms.sample]
                if isinstance(self.config, SftTrain):
                    _clone(terms, batch, self.config, sums)
                else:
                    _reinforce(terms, episode, batch, self.config, sums)
        with self.policy.lock, named_failures("training"):
            norm = self.optimizer.update(sums["loss"]) if batch else 0.0
        tokens = sum(episode.length for episode in batch)
        spoken = sum(episode.spoken for episode in batch)
        per_token = {key: sums[key] / max(spoken, 1) for key in ("kl", "clip_share", "entropy") if key in sums}
        seconds = time.perf_counter() - began
        return {"loss": sums["loss"], **per_token, "gradient_norm": norm, "tokens_per_second": tokens / seconds}

    @property
    def _temperature(self) -> float:
        return self.config.temperature if isinstance(self.config, GrpoTrain) else 1.0

    def _bins(self, batch: list[Episode]) -> tuple[list[Trie], Tensor]:
        """The batch's bins, and the episode in the batch of each of their samples."""
        groups = _groups(batch)
        observed = isinstance(self.config, SftTrain) and self.config.observation_weight > 0
        sequences = [[one for one, _ in group] for group in groups]
        bins = pack(sequences, self.token_budget, self.layout, observed=observed)
        owner = [episode for group in groups for _, episode in group]
        return bins, torch.tensor(owner, device=self.policy.device)

    def _shrink(self, batch: list[Episode]) -> None:
        """Halve the budget, from the largest bin that there was down to the longest sequence."""
        self.optimizer.drop_gradients()
        with self.policy.lock:
            free_unused(self.policy.device)
        longest = max((len(one.ids) for episode in batch for one in episode.sequences), default=0)
        largest = max((cost(one, self.layout) for one in self._bins(batch)[0]), default=0)
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


def _groups(episodes: Sequence[Episode]) -> list[list[tuple[TokenSequence, int]]]:
    """The sequences of each group with the place of their episode, groups in order of their first one."""
    found: dict[str, list[tuple[TokenSequence, int]]] = {}
    for place, episode in enumerate(episodes):
        found.setdefault(episode.group, []).extend((one, place) for one in episode.sequences)
    return list(found.values())


def _clone(terms: Scored, batch: list[Episode], config: SftTrain, sums: Sums) -> None:
    """Add the SFT gradient of one bin."""
    n_spoken = sum(episode.spoken for episode in batch)
    n_observed = sum(episode.length for episode in batch) - n_spoken
    loss = objectives.sft(terms.logp, terms.spoken.float(), n_spoken, n_observed, config.observation_weight)
    loss.backward()  # type: ignore[no-untyped-call]
    sums["loss"] += float(loss.detach())


def _reinforce(terms: Scored, episode: Tensor, batch: list[Episode], config: GrpoTrain, sums: Sums) -> None:
    """Add the GRPO gradient of one bin, whose terms are those of ``episode`` [N]."""
    counted = torch.tensor([one.spoken for one in batch], device=episode.device)
    advantage = torch.tensor([one.advantage for one in batch], device=episode.device)[episode]
    clips = (config.clip_low, config.clip_high)
    loss = objectives.grpo(terms.logp, terms.old_logp, advantage, episode, len(batch), *clips, counted)
    loss.backward()  # type: ignore[no-untyped-call]
    kl, held = objectives.drift(terms.logp, terms.old_logp, advantage, *clips)
    entropy = terms.entropy.sum()
    for key, value in (("loss", loss.detach()), ("kl", kl), ("clip_share", held), ("entropy", entropy)):
        sums[key] += float(value)


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
