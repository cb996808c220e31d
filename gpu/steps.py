"""Optimizer steps: gradients of a batch bin by bin, and one update.

A step that runs out of memory is done again with smaller bins. Its gradients were thrown away, and losses are sums
with denominators of the whole batch, so the update is the same but for rounding.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gpu.bins import cost, measure
from gpu.device import named_failures
from gpu.episodes import Bin, Episode, bins_of, in_groups, least_budget
from gpu.fit import fit, tightened
from gpu.layouts import choose
from gpu.losses import Losses, Sums, together
from gpu.objectives import ptx
from gpu.objectives.value import of_value_head
from gpu.optimizer import AdamW
from gpu.policy import Policy
from gpu.prepare import Preparation, scoring
from gpu.ranks import IDLE
from gpu.terms import Scored, score
from rl.config import TrainConfig
from rl.errors import OutOfMemory
from rl.kl import adapted
from rl.memory_plan import MemoryPlan
from rl.objectives import Cloning, Dpo, OnPolicy, Sft

log = logging.getLogger(__name__)

PER_TOKEN = ("kl", "clip_share", "entropy", "reference_kl")
SUMS = (*PER_TOKEN, "loss", "value_loss", "ptx_loss", "preferred", "engine_gap")
"""What is added up over the bins of a batch."""
KL_COEFFICIENT = "kl_coefficient"


@dataclass(frozen=True)
class Batch:
    """Episodes of one step in bins of at most ``budget`` tokens, and curated ones that are cloned beside them."""

    episodes: Sequence[Episode]
    bins: Sequence[Bin]
    budget: int
    curated: Sequence[Episode] = ()
    curated_bins: Sequence[Bin] = ()


class Steps:
    """The steps of one training on the policy's device, whose lock is taken for one bin of tokens at a time.

    ``planned`` is how memory was to be used before the first step, ``plan`` how it is, ``token_budget`` what it says,
    and ``shrunk`` how often memory ran out. ``layout`` is how bins are computed, ``why`` the reason for it, and
    ``shares`` counts the tokens of ``episodes``, of which every batch is made. ``uncut`` are the tokens of the largest
    episode or pair that the objective needs whole in a bin, 0 where it needs none; no budget is smaller.
    ``kl_coefficient`` multiplies the KL from the reference, 0 without one.

    Raises:
        InvalidInput: an adaptive coefficient could turn negative.
        OutOfMemory: nothing that could be chosen fits; says what the least would need.
    """

    def __init__(
        self, model: Any, optimizer: AdamW, config: TrainConfig, policy: Policy, episodes: Sequence[Episode]
    ) -> None:
        self.model, self.optimizer, self.config, self.policy = model, optimizer, config, policy
        self.ranks = policy.ranks
        self.episodes = list(episodes)
        self.shrunk = 0
        self.shares = measure(in_groups(episodes))
        self.layout, self.why = choose(model, self.shares.prefix)
        self.together = together(config)
        self.uncut = least_budget(episodes, self.layout, self.together) if self.together else 0
        self.plan = self.planned = self._fitted(episodes)
        self.token_budget = max(self.plan.token_budget, self.uncut)
        self.kl = config.kl if isinstance(config, OnPolicy) else None
        self.kl_coefficient = self.kl.coefficient if self.kl else 0.0
        self.charged = self.kl_coefficient
        # Off the reward the coefficient moves once a training, by all of its episodes.
        in_reward = self.kl is not None and self.kl.place == "reward"
        self.adapts_by = len(episodes) if in_reward else _largest_batch(config, len(episodes))
        self.engine_gap: float | None = None
        self.inherited: dict[str, Tensor] = {}
        self._adapted(0.0, self.adapts_by)

    @property
    def adaptive(self) -> bool:
        """Whether the KL's coefficient changes from update to update."""
        return self.kl is not None and self.kl.target is not None

    def carried(self) -> dict[str, Tensor]:
        """What the next training of the lineage goes on from, beside the optimizer's state."""
        head = self.optimizer.value_head
        carried = self.inherited | ({} if head is None else head.carried())
        if self.adaptive:
            carried[KL_COEFFICIENT] = torch.tensor(self.kl_coefficient, dtype=torch.float64)
        return carried

    def go_on(self, carried: Mapping[str, Tensor]) -> None:
        """Take an adaptive coefficient and a value head from the parent's; a fixed coefficient is the config's.

        What this training has no use for is kept for the next of the lineage.
        """
        self.inherited = {name: one for name, one in carried.items() if name == KL_COEFFICIENT}
        if self.adaptive and KL_COEFFICIENT in carried:
            self.kl_coefficient = float(carried[KL_COEFFICIENT])
        if self.optimizer.value_head is not None:
            self.optimizer.value_head.go_on(carried)
        else:
            self.inherited |= of_value_head(carried)

    def prepare(self) -> Iterator[float]:
        """Compute what must be known of every token before the first update; yields the share that is done.

        Raises:
            OutOfMemory: a single sequence does not fit.
        """
        preparation = Preparation(self.config, self.episodes, self.kl_coefficient, self.ranks)
        if preparation.passes:
            batch = self.pack(self.episodes)
            while not (yield from self._looked_over(preparation, batch)):
                batch = self._shrink(batch)
        self.episodes = preparation.known()
        self.charged = self.kl_coefficient
        self.kl_coefficient = self._adapted(preparation.reference_kl(self.episodes), len(self.episodes))

    def pack(self, episodes: Sequence[Episode], curated: Sequence[Episode] = ()) -> Batch:
        """The bins of a batch, which can be made while the step before it runs."""
        budget = self.token_budget
        bins = bins_of(episodes, budget, self.layout, self.together, self._observed)
        return Batch(episodes, bins, budget, curated, bins_of(curated, budget, self.layout))

    def run(self, batch: Batch) -> Sums:
        """One update on ``batch`` and its metrics; an empty batch changes nothing.

        Raises:
            TrainingDiverged: the loss or the gradient is not finite; no parameter was changed.
            OutOfMemory: a single sequence does not fit; says what it would need.
        """
        if batch.budget != self.token_budget:
            batch = self.pack(batch.episodes, batch.curated)
        while (metrics := self._tried(batch)) is None:
            batch = self._shrink(batch)
        return metrics

    def _looked_over(self, preparation: Preparation, batch: Batch) -> Generator[float, None, bool]:
        """Whether memory sufficed for the preparation of ``batch``."""
        try:
            yield from preparation.run(self._looked_at, batch.bins)
        except OutOfMemory as error:
            self._may_go_on(error)
            return False
        return True

    def _looked_at(self, one: Bin, reference: bool) -> Scored:
        with self.policy.lock, named_failures("training"):
            return scoring(self.model, self._scored)(one, reference)

    def _tried(self, batch: Batch) -> Sums | None:
        """The metrics of the step; None when memory ran out. What the failed one held is free once this returns."""
        try:
            return self._step(batch)
        except OutOfMemory as error:
            self._may_go_on(error)
            return None

    def _may_go_on(self, error: OutOfMemory) -> None:
        """With less memory, where no other process waits for what this one was about to send."""
        if self.ranks.world > 1:
            raise error
        log.warning("token budget %d: %s", self.token_budget, error.__cause__)

    def _step(self, batch: Batch) -> Sums:
        began, sums = time.perf_counter(), defaultdict[str, float](float)
        losses = Losses(self.config, batch.episodes, self.kl_coefficient, self.policy.device)
        for one in self.ranks.mine(batch.bins):
            with self.policy.lock, named_failures("training"):
                scored = self._scored(one)
                self._add(*(losses.of(one, scored) if one is not IDLE else (_nothing(scored), {})), sums)
        for one in self.ranks.mine(batch.curated_bins) if batch.episodes else ():
            with self.policy.lock, named_failures("training"):
                loss = self._curated(one, batch.curated)
                self._add(loss, {"ptx_loss": float(loss.detach())}, sums)
        with self.policy.lock, named_failures("training"):
            sums.update(self.ranks.sums(sums, SUMS))
            self.optimizer.gather(self.ranks)
            norm = self.optimizer.update(sums["loss"]) if batch.episodes else 0.0
        return self._metrics(batch, sums, losses.whole.n_tokens) | {
            "gradient_norm": norm,
            "tokens_per_second": _tokens(batch) / (time.perf_counter() - began),
        }

    def _add(self, loss: Tensor, found: Sums, sums: Sums) -> None:
        loss.backward()  # type: ignore[no-untyped-call]
        sums["loss"] += float(loss.detach())
        for name, value in found.items():
            sums[name] += value

    def _curated(self, one: Bin, curated: Sequence[Episode]) -> Tensor:
        """The likelihood of a bin that is cloned beside the objective."""
        assert isinstance(self.config, OnPolicy)  # noqa: S101
        assert self.config.ptx is not None  # noqa: S101
        scored = self._through(one)
        return ptx(scored.logp, sum(each.spoken for each in curated), self.config.ptx.coefficient)

    def _metrics(self, batch: Batch, sums: Sums, terms: int) -> Sums:
        """What is said of a step, beside its speed; an adaptive coefficient moves."""
        found = {key: sums[key] / max(terms, 1) for key in PER_TOKEN if key in sums}
        found |= {key: sums[key] for key in ("value_loss", "ptx_loss") if key in sums}
        if "preferred" in sums:
            found["preferred_share"] = sums["preferred"] / (len(batch.episodes) // 2)
        if "engine_gap" in sums and self.optimizer.done == 1:
            current = sum(each.spoken for each in batch.episodes if each.staleness == 0)
            if current:
                found["engine_gap"] = self.engine_gap = sums["engine_gap"] / current
        if isinstance(self.config, OnPolicy) and batch.episodes:
            found["truncated_share"] = sum(each.truncated for each in batch.episodes) / len(batch.episodes)
            found["mean_score"] = sum(each.reward for each in batch.episodes) / len(batch.episodes)
        if self.kl is not None:
            found["kl_coefficient"] = self.kl_coefficient if self.kl.place == "loss" else self.charged
        if self.kl is not None and self.kl.place == "loss":
            self.kl_coefficient = self._adapted(found.get("reference_kl"), len(batch.episodes))
        return {"loss": sums["loss"], **found}

    def _adapted(self, reference_kl: float | None, episodes: int) -> float:
        """The coefficient after an update on ``episodes`` at that mean KL a token, nats."""
        kl = self.kl
        if kl is None or kl.target is None or kl.horizon is None or reference_kl is None:
            return self.kl_coefficient
        return adapted(self.kl_coefficient, reference_kl, episodes, kl.target, kl.horizon)

    def _scored(self, one: Bin) -> Scored:
        temperature = self.config.temperature if isinstance(self.config, OnPolicy) else 1.0
        return self._through(one, temperature, self.optimizer.value_head)

    def _through(self, one: Bin, *more: Any) -> Scored:
        """A bin through the model, all of which is there meanwhile."""
        return self.ranks.run(self.model, lambda model: score(model, one.trie, self.layout, *more))

    @property
    def _observed(self) -> bool:
        """Whether what was read is trained on too."""
        return isinstance(self.config, Sft) and self.config.observation_weight > 0

    def _shrink(self, batch: Batch) -> Batch:
        """Smaller bins, down to the longest sequence, and then more layers that are computed again."""
        self.optimizer.drop_gradients()
        longest = max(self.uncut, *(least_budget(one, self.layout, None) for one in (batch.episodes, batch.curated)))
        largest = max((cost(one.trie, self.layout) for one in [*batch.bins, *batch.curated_bins]), default=0)
        with self.policy.lock:
            self.plan = tightened(self.model, self.plan, self.policy.device, largest=largest, longest=longest)
        self.token_budget = self.plan.token_budget
        self.shrunk += 1
        return self.pack(batch.episodes, batch.curated)

    def _fitted(self, episodes: Sequence[Episode]) -> MemoryPlan:
        """How all of it fits into the device's memory; curated rows may fill a bin whatever there is of episodes."""
        tokens = self.shares.unique if self.layout == "tree" else self.shares.sequence
        if self.layout == "padded" or getattr(self.config, "ptx", None) is not None:
            tokens = self.config.token_budget
        longest = least_budget(episodes, self.layout, self.together)
        here = self.policy.device, self.ranks
        return fit(self.model, self.optimizer, self.config, *here, longest=longest, tokens=tokens)


def _nothing(scored: Scored) -> Tensor:
    """A loss without terms, whose backward pass takes part in that of the other processes."""
    return scored.logp.sum() if scored.value is None else scored.logp.sum() + scored.value.sum()


def _tokens(batch: Batch) -> int:
    return sum(one.length for one in [*batch.episodes, *batch.curated])


def _largest_batch(config: TrainConfig, episodes: int) -> int:
    match config:
        case Cloning():
            return min(config.batch_episodes, episodes)
        case Dpo():
            return min(2 * config.batch_pairs, episodes)
    return -(-episodes // config.mini_batches)
