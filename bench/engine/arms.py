"""Three ways to answer the same chats greedily, each with exactly the tokens that were asked for."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bench.engine.workload import Chat
from gpu.generate import Completion, Request
from gpu.policy import Policy, Version
from gpu.scheduler import Scheduler

SECONDS = 600.0
Answers = list[list[int]]


def engine(policy: Policy, version: Version, chats: Sequence[Chat], at_once: int) -> list[Completion]:
    """Through the scheduler and its thread: ``at_once`` callers, each of whom asks again when it has its answer.

    The scheduler is new, so nothing is known of the prompts.
    """
    scheduler = Scheduler(policy)
    callers = Callers(scheduler, version, chats)
    for _ in range(at_once):
        callers.ask()
    scheduler.start()
    try:
        return callers.answers()
    finally:
        scheduler.stop()


class Callers:
    """Callers that take the next chat as soon as their last one was answered. Used once."""

    def __init__(self, scheduler: Scheduler, version: Version, chats: Sequence[Chat]) -> None:
        self._scheduler, self._version, self._chats = scheduler, version, chats
        self._answers: dict[int, Completion | Exception] = {}
        self._next = iter(range(len(chats)))
        self._over = threading.Event()

    def answers(self) -> list[Completion]:
        """Wait for all of them; in the order of the chats."""
        if not self._over.wait(SECONDS):
            raise TimeoutError(f"{len(self._answers)} of {len(self._chats)} chats were answered in {SECONDS:.0f} s")
        return [_completion(self._answers[at]) for at in range(len(self._chats))]

    def ask(self) -> None:
        """Submit the next chat, and once it is answered the one after it."""
        at = next(self._next, None)
        if at is None:
            return
        chat = self._chats[at]

        def finished(answer: Completion | Exception) -> None:
            self._answers[at] = answer
            self.ask()
            if len(self._answers) == len(self._chats):
                self._over.set()

        asked = Request(chat.prompt, chat.answer_tokens, 0.0, at, finished, ignore_eos=True)
        self._scheduler.submit(self._version, asked)


def one_at_a_time(model: Any, chats: Sequence[Chat]) -> Answers:
    """``generate`` of transformers, one chat after the other."""
    return [_generate(model, [chat])[0] for chat in chats]


def static_batches(model: Any, chats: Sequence[Chat], size: int) -> Answers:
    """``generate`` on batches of ``size`` in order, padded left; each batch ends with its longest answer."""
    batches = [chats[start : start + size] for start in range(0, len(chats), size)]
    return [answer for batch in batches for answer in _generate(model, batch)]


def _generate(model: Any, batch: Sequence[Chat]) -> Answers:
    longest = max(chat.answer_tokens for chat in batch)
    ids, mask = _left_padded(batch)
    with torch.inference_mode():
        said = model.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=False,
            min_new_tokens=longest,
            max_new_tokens=longest,
            pad_token_id=0,
        )
    spoken = said[:, ids.shape[1] :].tolist()
    return [answer[: chat.answer_tokens] for answer, chat in zip(spoken, batch, strict=True)]


def _left_padded(batch: Sequence[Chat]) -> tuple[Tensor, Tensor]:
    """Ids and mask [B, S] of the prompts."""
    longest = max(len(chat.prompt) for chat in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, chat in enumerate(batch):
        ids[row, longest - len(chat.prompt) :] = torch.tensor(chat.prompt)
        mask[row, longest - len(chat.prompt) :] = 1
    return ids, mask


def _completion(answer: Completion | Exception) -> Completion:
    if isinstance(answer, Exception):
        raise answer
    return answer
