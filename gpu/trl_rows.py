"""Stored episodes as the micro-batches that TRL's trainers take: padded rows, one for each token sequence.

Tokens are those that were stored. A trainer of TRL's means over rows, over tokens, or over both in turn, within each
micro-batch, and then over an update's micro-batches; ours over episodes, of which some are several rows. Advantages are
scaled so that both are the same sum: every such loss is linear in them as long as their signs stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from gpu.episodes import Episode
from rl.errors import InvalidInput
from rl.objectives import OnPolicy
from rl.records import Sequence as TokenSequence
from rl.trl import loss_of

IGNORED = -100
"""The label of a token that counts in no loss."""


@dataclass(frozen=True)
class Row:
    """One sequence of a batch, with its episode; ``counted`` is False where it only fills a micro-batch."""

    sequence: TokenSequence
    episode: Episode
    counted: bool = True

    @property
    def mask(self) -> list[int]:
        """1 where a token counts in the loss, [length]."""
        return self.sequence.mask if self.counted else [0] * len(self.sequence.mask)

    @property
    def prompt(self) -> int:
        """How many tokens stand before the first spoken one."""
        return self.sequence.mask.index(1)


@dataclass(frozen=True)
class Shape:
    """``rows`` of a micro-batch at most, how many micro-batches make an update, and the tokens of the widest row."""

    rows: int
    accumulation: int
    width: int


@dataclass(frozen=True)
class Part:
    """One micro-batch: its rows, and the episodes of the whole update that it is a part of."""

    rows: list[Row]
    batch: Sequence[Episode]
    shape: Shape


def shape_of(batches: Sequence[Sequence[Episode]], token_budget: int) -> Shape:
    """As many padded rows as the budget holds of the widest, and enough micro-batches for the largest update."""
    widest = max(len(one.ids) for batch in batches for episode in batch for one in episode.sequences)
    largest = max(sum(len(episode.sequences) for episode in batch) for batch in batches)
    rows = min(max(token_budget // widest, 1), largest)
    return Shape(rows, -(-largest // rows), widest)


def parts_of(batch: Sequence[Episode], shape: Shape) -> list[Part]:
    """The update on ``batch`` in exactly ``shape.accumulation`` micro-batches, as even as can be.

    One that would be empty gets a row that does not count: the trainers of transformers take equally many each time.
    """
    rows = [Row(one, episode) for episode in batch for one in episode.sequences]
    cuts = [len(rows) * number // shape.accumulation for number in range(shape.accumulation + 1)]
    filler = [Row(rows[0].sequence, rows[0].episode, counted=False)]
    return [Part(rows[start:end] or filler, batch, shape) for start, end in pairwise(cuts)]


def sft_examples(part: Part) -> list[dict[str, list[int]]]:
    """What ``SFTTrainer``'s collator takes: ids, and labels for the spoken ones."""
    return [
        {
            "input_ids": row.sequence.ids,
            "labels": [token if spoken else IGNORED for token, spoken in zip(row.sequence.ids, row.mask, strict=True)],
        }
        for row in part.rows
    ]


def grpo_inputs(part: Part, config: OnPolicy, pad: int) -> dict[str, Tensor]:
    """What ``GRPOTrainer._compute_loss`` takes: prompts padded on the left, completions [B, C] on the right.

    The completion is all that stands behind the first prompt; ``tool_mask`` is 0 on what the policy did not speak.
    ``num_items_in_batch`` is as if a generation batch were one update.
    """
    rows = part.rows
    prompts = [row.sequence.ids[: row.prompt] for row in rows]
    rests = [row.sequence.ids[row.prompt :] for row in rows]
    prompt_mask = [[1] * len(one) for one in prompts]
    return {
        "prompt_ids": _padded(prompts, pad, left=True),
        "prompt_mask": _padded(prompt_mask, 0, left=True),
        "completion_ids": _padded(rests, pad),
        "completion_mask": _padded([[1] * len(one) for one in rests], 0),
        "tool_mask": _padded([row.mask[row.prompt :] for row in rows], 0),
        "advantages": torch.tensor([_advantage(row, part, config) for row in rows]),
        "old_per_token_logps": _padded([row.sequence.logprobs[row.prompt :] for row in rows], 0.0),
        "num_items_in_batch": torch.tensor(sum(episode.spoken for episode in part.batch)),
    }


def refuse_cut(episodes: Sequence[Episode], config: OnPolicy) -> None:
    """A ratio a sample needs all tokens of a sample in one row.

    Raises:
        InvalidInput: an episode is several sequences.
    """
    several = sum(len(one.sequences) > 1 for one in episodes)
    if loss_of(config).level == "sequence" and several:
        remedy = f"{several} episodes are several sequences, and TRL has a ratio for each; use the local backend"
        raise InvalidInput("objective", config.objective, remedy)


def _advantage(row: Row, part: Part, config: OnPolicy) -> float:
    """The episode's, times what makes the row's share of TRL's mean that of ours; see the module's first lines."""
    loss = loss_of(config)
    if loss.kind in ("dapo", "cispo"):
        return row.episode.advantage
    spoke = sum(episode.spoken > 0 for episode in part.batch)
    share = part.shape.accumulation * len(part.rows) / spoke
    if loss.kind == "grpo":
        share *= sum(row.sequence.mask) / row.episode.spoken
    return row.episode.advantage * share


def _padded(rows: Sequence[Sequence[Any]], value: float, left: bool = False) -> Tensor:
    """[B, width of the longest]."""
    tensors = [torch.tensor(row) for row in rows]
    side = "left" if left else "right"
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=value, padding_side=side)
