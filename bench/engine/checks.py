"""Whether the arms say the same, and whether the engine's log-probabilities are those of a plain forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bench.engine.workload import Chat
from gpu.generate import Completion

TIE = 1e-3
"""Logits of the two likeliest tokens may be this close; then a batch of another size may round to the other one."""


def logprob_error(model: Any, chats: Sequence[Chat], done: Sequence[Completion]) -> float:
    """The greatest difference of a completion's log-probabilities from those of one plain forward pass."""
    worst = 0.0
    for chat, one in zip(chats, done, strict=True):
        logp = torch.log_softmax(plain_logits(model, chat, one.token_ids), dim=-1)
        plain = logp.gather(-1, torch.tensor(one.token_ids)[:, None])[:, 0]
        worst = max(worst, float((plain - torch.tensor(one.logprobs)).abs().max()))
    return worst


def differing(model: Any, chats: Sequence[Chat], ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]]) -> int:
    """How many answers differ in length, or in a token where one was clearly the likeliest."""
    pairs = zip(chats, ours, theirs, strict=True)
    return sum(not _same(model, chat, list(one), list(other)) for chat, one, other in pairs)


def plain_logits(model: Any, chat: Chat, spoken: Sequence[int]) -> Tensor:
    """Logits [len(spoken), V] of one plain forward pass, each before a token of ``spoken``."""
    with torch.inference_mode():
        logits: Tensor = model(input_ids=torch.tensor([chat.prompt + list(spoken)])).logits[0].float()
    return logits[len(chat.prompt) - 1 : -1]


def _same(model: Any, chat: Chat, ours: list[int], theirs: list[int]) -> bool:
    if ours == theirs or len(ours) != len(theirs):
        return ours == theirs
    at = next(i for i, (one, other) in enumerate(zip(ours, theirs, strict=True)) if one != other)
    logits = plain_logits(model, chat, ours[: at + 1])[at]
    return float((logits[ours[at]] - logits[theirs[at]]).abs()) <= TIE
