"""Gradients of every objective, along tries and on padded rows of the same model, in 32 bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.train_ratio.arms import BUDGET, CLIPS, OPTIMIZER, Padded, plain_attention
from bench.train_ratio.model import Sizes, build, distance, gradient
from bench.train_ratio.workloads import Workload, conversation, ragged
from gpu import objectives
from gpu.bins import pack
from gpu.terms import score
from rl.config import GrpoTrain
from rl.objective_parts import Kl
from rl.objectives import Cispo, Dapo, DrGrpo, Gspo, OnPolicy, Ppo, ReinforceBaseline, Rloo

GATE = 1e-5
FROM_REFERENCE = 0.2
"""The reference's log-probabilities are that much below the stored ones, nats."""

Loss = Callable[["Terms"], Tensor]


@dataclass(frozen=True)
class Terms:
    """The spoken tokens of all episodes of ``work``, [N] each."""

    work: Workload
    logp: Tensor
    old_logp: Tensor
    episode: Tensor

    @property
    def whole(self) -> objectives.Whole:
        """The denominators."""
        return objectives.Whole.of(self.work.spoken_each, self.logp.device)

    def of_episodes(self, values: list[float]) -> Tensor:
        """One value an episode, [E]."""
        return torch.tensor(values, device=self.logp.device)


def measure(sizes: Sizes, device: torch.device, seed: int, share: float) -> dict[str, float]:
    """The relative gradient error of each objective, the greater of a ragged group's and a conversation's."""
    model, found = build(sizes, seed, device), dict.fromkeys(OBJECTIVES, 0.0)
    for make in (ragged, conversation):
        work = make(seed, sizes.vocabulary, share)
        for name, loss in OBJECTIVES.items():
            if len(work.episodes) > 1 or name != "dpo":
                found[name] = max(found[name], _error(model, work, loss))
    return found


def _error(model: Any, work: Workload, loss: Loss) -> float:
    loss(_along_tries(model, work)).backward()  # type: ignore[no-untyped-call]
    ours = gradient(model)
    loss(_padded(model, work)).backward()  # type: ignore[no-untyped-call]
    return distance(ours, gradient(model))


def _along_tries(model: Any, work: Workload) -> Terms:
    (trie,) = pack([work.episodes], BUDGET)
    scored = score(model, trie, "tree")
    return Terms(work, scored.logp, scored.old_logp, scored.sample)


def _padded(model: Any, work: Workload) -> Terms:
    plain_attention(model)
    batch = Padded(work, range(len(work.rows)), model.device)
    return Terms(work, batch.log_probs(model), batch.old_logp, batch.episode)


def _policy(config: OnPolicy) -> Loss:
    """The loss of ``config``, with its KL where it has one."""

    def loss(terms: Terms) -> Tensor:
        advantage = terms.of_episodes(terms.work.advantages)[terms.episode]
        arrays = objectives.Terms(terms.logp, terms.old_logp, advantage, terms.episode, terms.old_logp - FROM_REFERENCE)
        value = objectives.policy_loss(config, arrays, terms.whole)
        penalty = objectives.kl_loss(config, arrays, terms.whole, config.kl.coefficient if config.kl else 0.0)
        return value if penalty is None else value + penalty

    return loss


def _sft(terms: Terms) -> Tensor:
    return objectives.sft(terms.logp, torch.ones_like(terms.logp), terms.work.spoken)


def _weighted_sft(terms: Terms) -> Tensor:
    weight = terms.of_episodes(terms.work.advantages).exp()
    return objectives.weighted_sft(terms.logp, weight, terms.episode, terms.work.spoken)


def _dpo(terms: Terms) -> Tensor:
    """The first half of the episodes is preferred to the second."""
    chosen, rejected = torch.arange(len(terms.work.episodes), device=terms.logp.device).chunk(2)
    reference = terms.old_logp - FROM_REFERENCE
    return objectives.dpo(terms.logp, reference, terms.episode, chosen, rejected, 0.1, len(chosen))


_COMMON: dict[str, Any] = {"optimizer": OPTIMIZER, "clip_low": CLIPS[0], "clip_high": CLIPS[1]}

OBJECTIVES: dict[str, Loss] = {
    "grpo": _policy(GrpoTrain(**_COMMON)),
    "grpo with k3": _policy(GrpoTrain(**_COMMON, kl=Kl(estimator="k3"))),
    "gspo": _policy(Gspo(**_COMMON)),
    "ppo": _policy(Ppo(**_COMMON)),
    "reinforce_baseline": _policy(ReinforceBaseline(**_COMMON)),
    "cispo": _policy(Cispo(**_COMMON)),
    "dapo": _policy(Dapo(**_COMMON)),
    "dr_grpo": _policy(DrGrpo(**_COMMON, max_tokens=1024)),
    "rloo": _policy(Rloo(**_COMMON)),
    "sft": _sft,
    "weighted_sft": _weighted_sft,
    "dpo": _dpo,
}
"""Clip widths are those of the timed arms for all: with GSPO's own nothing but clipped samples would be compared."""
