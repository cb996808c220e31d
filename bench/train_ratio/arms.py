"""Forward and backward of one batch as our trainer does it, and as a good padded trainer would."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bench.train_ratio.meter import Step
from bench.train_ratio.workloads import Workload
from gpu import objectives
from gpu.attention import inner
from gpu.bins import measure, pack
from gpu.layouts import choose
from gpu.terms import score
from rl.config import Optimizer, Train
from rl.objectives import Dapo

CLIPS = (0.2, 0.28)
BUDGET: int = Train.model_fields["token_budget"].default

OPTIMIZER = Optimizer(learning_rate=1e-4)
TOKEN_MEAN = Dapo(optimizer=OPTIMIZER, clip_low=CLIPS[0], clip_high=CLIPS[1], filter=None)
"""The loss of every timed arm: one mean over all spoken tokens, however they are cut into samples."""

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From log-probabilities, old ones and the episode of each term, [N] each."""


def ours(model: Any, work: Workload, budget: int = BUDGET) -> Step:
    """Our trainer's gradients: packing, one pass a bin, log-probabilities, loss, backward. All of it is timed."""
    layout, _ = choose(model, measure([work.episodes]).prefix)
    loss = token_mean(work, model.device)

    def step() -> None:
        for one in pack([work.episodes], budget, layout):
            terms = score(model, one, layout)
            part = loss(terms.logp, terms.old_logp, terms.sample)
            part.backward()  # type: ignore[no-untyped-call]

    return step


def padded(model: Any, work: Workload, rows_at_once: int | None = None, mask: bool = False) -> Step:
    """A padded trainer that wastes nothing else: no mask, as nothing looks ahead, and logits of spoken tokens only.

    Its tensors are made beforehand. ``rows_at_once`` is its micro-batch; all rows where it is None. With ``mask`` it
    passes the attention mask of its padding, which on a CPU costs it the kernel that leaves half of the scores out.
    """
    size = rows_at_once or len(work.rows)
    batches = [
        Padded(work, range(first, len(work.rows))[:size], model.device) for first in range(0, len(work.rows), size)
    ]
    loss = token_mean(work, model.device)

    def step() -> None:
        plain_attention(model)
        for batch in batches:
            part = loss(batch.log_probs(model, mask), batch.old_logp, batch.episode)
            part.backward()  # type: ignore[no-untyped-call]

    return step


def masked(model: Any, work: Workload) -> Step:
    """A padded trainer as they are: logits of spoken tokens only, and an attention mask."""
    return padded(model, work, mask=True)


def plain_attention(model: Any) -> None:
    """What everybody but us computes attention with."""
    inner(model).set_attn_implementation("sdpa")


class Padded:
    """Some rows padded on the right as tensors, made once; ``old_logp`` and ``episode`` [N] of the spoken tokens."""

    def __init__(self, work: Workload, rows: Iterable[int], device: torch.device) -> None:
        chosen = list(rows)

        def stacked(name: str, dtype: torch.dtype) -> Tensor:
            parts = [torch.tensor(getattr(work.rows[at], name), dtype=dtype) for at in chosen]
            return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True).to(device)

        self.ids = stacked("ids", torch.long)
        lengths = torch.tensor([len(work.rows[at].ids) for at in chosen], device=device)
        self.attention_mask = (torch.arange(self.ids.shape[1], device=device) < lengths[:, None]).long()
        self.row, self.before = stacked("mask", torch.bool)[:, 1:].nonzero(as_tuple=True)
        self.targets = self.ids[self.row, self.before + 1]
        self.old_logp = stacked("logprobs", torch.float32)[self.row, self.before + 1]
        self.episode = torch.tensor([work.owner[at] for at in chosen], device=device)[self.row]

    def log_probs(self, model: Any, mask: bool = False) -> Tensor:
        """Of the spoken tokens, [N], from full logits of exactly those."""
        body = inner(model).base_model
        passed = {"attention_mask": self.attention_mask} if mask else {}
        states = body(input_ids=self.ids, use_cache=False, **passed).last_hidden_state
        logits = inner(model).get_output_embeddings()(states[self.row, self.before])
        return -cross_entropy(logits.float(), self.targets, reduction="none")


def token_mean(work: Workload, device: torch.device) -> Loss:
    """The loss of ``TOKEN_MEAN`` with the denominators of the whole of ``work``."""
    advantage, whole = torch.tensor(work.advantages, device=device), objectives.Whole.of(work.spoken_each, device)

    def loss(logp: Tensor, old_logp: Tensor, episode: Tensor) -> Tensor:
        terms = objectives.Terms(logp, old_logp, advantage[episode], episode)
        return objectives.policy_loss(TOKEN_MEAN, terms, whole)

    return loss
