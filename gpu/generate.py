"""Decoding: many requests to one version, joining and leaving at every step.

A request's prompt but its last token is computed first, in batches of like lengths and as far as its keys
and values are not known already; then every row is fed one token a step. Sampling inverts the cumulative
distribution at a uniform number of the request's own generator, so neighbours in the batch do not matter.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from gpu.kv import Arena, Prefixes
from gpu.passes import Passes
from gpu.policy import Policy, Version
from gpu.sampling import draw

CAPACITY = 128
PREFILL_TOKENS = 2048
PREFIX_BYTES = 128 << 20
KEY_VALUE_BYTES = 2 << 30
"""Keys and values of the rows in flight take at most this much, for one version."""


@dataclass(frozen=True)
class Request:
    """What to sample: at ``temperature`` 0 the likeliest token always, else from the distribution.

    ``finished`` is called once, on the decoding thread, with the completion or with what went wrong. ``heard`` is
    told each token and its log-probability there; when it says true, that token is the last. Once ``cancelled`` is
    set, the request leaves at the next step and nobody is called. With ``ignore_eos`` the answer has ``max_tokens``
    tokens, whatever it says.
    """

    prompt: list[int]
    max_tokens: int
    temperature: float
    seed: int
    finished: Callable[[Completion | Exception], None] = lambda result: None
    heard: Callable[[int, float], bool] | None = None
    ignore_eos: bool = False
    cancelled: threading.Event = field(default_factory=threading.Event, compare=False)

    @property
    def longest(self) -> int:
        """How many tokens it may come to, prompt and answer together."""
        return len(self.prompt) + self.max_tokens


@dataclass(frozen=True)
class Completion:
    """``logprobs[i]`` is the natural log-probability of ``token_ids[i]`` at the temperature it was sampled with.

    A greedy completion has those at temperature 1. The end-of-turn token is part of it when it was spoken.
    """

    token_ids: list[int]
    logprobs: list[float]
    finish_reason: Literal["stop", "length"]


@dataclass
class Row:
    """One request in flight. All of its tokens but the last are in the arena."""

    request: Request
    ids: list[int]
    rng: random.Random
    logprobs: list[float] = field(default_factory=list)
    ended: bool = False

    def take(self, token: int, logprob: float) -> None:
        """One more token."""
        self.ids.append(token)
        self.logprobs.append(logprob)
        if self.request.heard is not None:
            self.ended = self.request.heard(token, logprob)

    @property
    def cached(self) -> int:
        """How many tokens have keys and values."""
        return len(self.ids) - 1


class Decoder:
    """The requests in flight for one version. Used by one thread at a time, with the device held.

    ``arena`` is one that another version no longer needs, to be used again where it suits.
    """

    def __init__(self, version: Version, capacity: int = CAPACITY, arena: Arena | None = None) -> None:
        self.version = version
        self.capacity = capacity
        self.rows: list[Row] = []
        self.prefixes = Prefixes(PREFIX_BYTES)
        shape = (version.model.config, version.model.device, version.model.dtype)
        self.arena = arena if arena is not None and arena.suits(*shape) else Arena(*shape)
        self.passes = Passes(version.model, self.arena)
        self.stops = _stop_ids(version)
        self.device = version.model.device

    @property
    def requests(self) -> list[Request]:
        """What is in flight."""
        return [row.request for row in self.rows]

    def admit(self, waiting: deque[Request]) -> None:
        """Take requests in order, up to the capacity, and compute their prompts.

        A prompt that another new request is just computing stays in the queue: at the next step its keys
        and values are simply copied.
        """
        new: list[Row] = []
        computing: set[tuple[int, ...]] = set()
        later: list[Request] = []
        longest = max((row.request.longest for row in self.rows), default=0)
        _drop_cancelled(waiting)
        while waiting:
            longest = max(longest, waiting[0].longest)
            if not self._has_room(len(self.rows) + len(new), longest):
                break
            request = waiting.popleft()
            known = tuple(request.prompt[:-1])
            if known in computing:
                later.append(request)
                continue
            if known not in self.prefixes:
                computing.add(known)
            new.append(Row(request, list(request.prompt), random.Random(request.seed)))
        waiting.extendleft(reversed(later))
        if new:
            self._prefill(new)

    def _has_room(self, rows: int, longest: int) -> bool:
        """Whether one more row fits where the longest has ``longest`` tokens; the first always does."""
        fits = (rows + 1) * longest * self.arena.token_bytes <= KEY_VALUE_BYTES
        return not rows or (fits and rows < self.capacity)

    def step(self) -> int:
        """Sample one token for every row; how many rows finished."""
        if not self.rows:
            return 0
        lengths = [row.cached for row in self.rows]
        width = max(lengths) + 1
        self.arena.reserve(len(self.rows), width)
        columns, last = torch.tensor([lengths, [row.ids[-1] for row in self.rows]]).to(self.device)[:, :, None]
        logits = self.passes.logits_after(0, last, columns, width)
        chosen, logprobs = self._sample(logits)
        for row, token, logprob in zip(self.rows, chosen, logprobs, strict=True):
            row.take(token, logprob)
        return self._leave()

    def _prefill(self, new: list[Row]) -> None:
        """Append rows and compute what is not known of their prompts."""
        known = [self._known(row) for row in new]
        order = sorted(range(len(new)), key=lambda i: new[i].cached - known[i][0])
        first = len(self.rows)
        self.rows += [new[i] for i in order]
        self.arena.reserve(len(self.rows), max(row.cached for row in self.rows) + 1)
        starts = []
        for at, i in enumerate(order, start=first):
            length, stored = known[i]
            if stored is not None:
                self.arena.restore(at, stored)
            starts.append(length)
        for low, high in _bunches([row.cached - start for row, start in zip(self.rows[first:], starts, strict=True)]):
            self._compute(first + low, self.rows[first + low : first + high], starts[low:high])

    def _compute(self, first: int, rows: Sequence[Row], starts: Sequence[int]) -> None:
        """Keys and values of ``rows`` from ``starts`` on; padding repeats the last column's token harmlessly."""
        longest = max(row.cached - start for row, start in zip(rows, starts, strict=True))
        if not longest:
            return
        width = max(starts) + longest
        self.arena.reserve(0, width)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        for i, (row, start) in enumerate(zip(rows, starts, strict=True)):
            ids[i, : row.cached - start] = torch.tensor(row.ids[start:-1])
        columns = torch.tensor(starts)[:, None] + torch.arange(longest)
        self.passes.fill(first, ids.to(self.device), columns.to(self.device), width)
        for i, row in enumerate(rows):
            self._keep(first + i, row, row.cached)
            ends = self._ends(row)
            if ends:
                self._keep(first + i, row, ends[0])

    def _known(self, row: Row) -> tuple[int, Tensor | None]:
        """How many of the row's tokens are stored, and their keys and values."""
        return self.prefixes.longest(row.ids, [row.cached, *self._ends(row)])

    def _ends(self, row: Row) -> list[int]:
        """Where turns end in the cached tokens: a finished row is stored up to, not with, its last token."""
        return [i for i, token in enumerate(row.ids[:-1]) if token in self.stops and i]

    def _keep(self, at: int, row: Row, length: int) -> None:
        key = tuple(row.ids[:length])
        if length and key not in self.prefixes:
            self.prefixes.put(key, self.arena.copy(at, length))

    def _sample(self, logits: Tensor) -> tuple[list[int], list[float]]:
        """One token a row and its log-probability."""
        temperatures = [row.request.temperature for row in self.rows]
        return draw(logits, temperatures, [row.rng.random() if row.request.temperature else 0.0 for row in self.rows])

    def _leave(self) -> int:
        """Finish the rows that are done; the last rows move into their places."""
        done = [i for i, row in enumerate(self.rows) if self._is_done(row)]
        for i in done:
            row = self.rows[i]
            if row.request.cancelled.is_set():
                continue
            stopped = self._is_stopped(row)
            if stopped:
                self._keep(i, row, row.cached)
            spoken = row.ids[len(row.request.prompt) :]
            row.request.finished(Completion(spoken, row.logprobs, "stop" if stopped or row.ended else "length"))
        gone, left = set(done), len(self.rows) - len(done)
        targets = [i for i in done if i < left]
        sources = [i for i in range(left, len(self.rows)) if i not in gone]
        if sources:
            self.arena.move(sources, targets, max(self.rows[i].cached for i in sources) + 1)
        for source, target in zip(sources, targets, strict=True):
            self.rows[target] = self.rows[source]
        del self.rows[left:]
        return len(done)

    def _is_done(self, row: Row) -> bool:
        full = len(row.logprobs) >= row.request.max_tokens
        return full or row.ended or self._is_stopped(row) or row.request.cancelled.is_set()

    def _is_stopped(self, row: Row) -> bool:
        return row.ids[-1] in self.stops and not row.request.ignore_eos


def generate(policy: Policy, version: Version, requests: Iterable[Request]) -> list[Completion]:
    """Complete all ``requests`` on the calling thread, in order."""
    results: dict[int, Completion] = {}
    waiting = deque(replace(request, finished=_setter(results, i)) for i, request in enumerate(requests))
    decoder = Decoder(version)
    while waiting or decoder.rows:
        with policy.using(version):
            decoder.admit(waiting)
            decoder.step()
    return [results[i] for i in range(len(results))]


def _drop_cancelled(waiting: deque[Request]) -> None:
    """Forget requests that nobody waits for. Another thread may append meanwhile, so a copy is looked at."""
    seen = list(waiting)
    if any(request.cancelled.is_set() for request in seen):
        taken = [waiting.popleft() for _ in seen]
        waiting.extendleft(request for request in reversed(taken) if not request.cancelled.is_set())


def _setter(results: dict[int, Any], index: int) -> Callable[[Completion | Exception], None]:
    return lambda completion: results.__setitem__(index, completion)


def _bunches(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ranges of ascending ``lengths`` whose padded tokens stay under the prefill budget; zeros apart."""
    start = 0
    for end in range(1, len(lengths) + 1):
        full = end == len(lengths) or lengths[end] * (end + 1 - start) > PREFILL_TOKENS
        if full or lengths[start] == 0 < lengths[end]:
            yield start, end
            start = end


def _stop_ids(version: Version) -> frozenset[int]:
    """The tokens that end a turn: the tokenizer's, and what the model's own generation config says."""
    config: Any = getattr(version.model, "generation_config", None)
    named = getattr(config, "eos_token_id", None)
    more = named if isinstance(named, list) else [named]
    return frozenset({version.tokens.eos_id, *(int(one) for one in more if one is not None)})
