"""Token sequences as a trie: what several of them begin with is stored once.

Tokens are laid out depth first, so that everything below a token stands directly behind it. Token ``j`` is then an
ancestor of ``i``, or ``i`` itself, exactly when ``j <= i < last[segment of j]``: attention over a trie is the causal
mask and one more comparison, and a whole subtree is one slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rl.errors import InvalidInput
from rl.records import Sequence as TokenSequence

Ints = npt.NDArray[np.int64]

LEAST_SHARED = 16
"""Sequences that begin with fewer equal tokens than this share nothing: a branch costs attention a call of its own."""
NOTHING_SHARED = 1 << 62
"""As ``least_shared``: every sequence is stored whole."""


@dataclass(frozen=True, eq=False)
class Terms:
    """The tokens a loss is made of, one entry for each of each sample, [N] each.

    ``token`` is the trie's index of the token that is scored; two samples that share a scored token have two terms.
    ``sample`` says whose it is and ``position`` where in that sample's ids. ``old_logp`` is its stored
    log-probability, nats, and ``spoken`` whether the policy spoke it.
    """

    token: Ints
    sample: Ints
    position: Ints
    old_logp: npt.NDArray[np.float32]
    spoken: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.token)


@dataclass(frozen=True, eq=False)
class Trie:
    """A forest of tokens in depth-first order, T tokens in S segments.

    ``ids``, ``depth`` and ``parent`` are [T]: the token, how many stand before it in its sequence, and the index of
    the one directly before it (-1 where none does). A segment is a run of tokens without a branch: ``start``, ``end``
    and ``last`` [S] bound its own tokens and, from ``start`` to ``last``, everything below it; ``above`` [S] is the
    segment it goes on from, or -1.
    """

    ids: Ints
    depth: Ints
    parent: Ints
    start: Ints
    end: Ints
    last: Ints
    above: Ints
    terms: Terms
    sequence_tokens: int

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def segment_last(self) -> Ints:
        """[T]: where the subtree of each token's segment ends."""
        return np.repeat(self.last, self.end - self.start)

    def paths(self) -> list[Ints]:
        """The tokens of each leaf's sequence, root first, as indices into the trie."""
        ways: list[Ints] = []
        leaves = []
        for start, end, last, above in zip(self.start, self.end, self.last, self.above, strict=True):
            before = ways[above] if above >= 0 else _no_indices()
            ways.append(np.concatenate([before, np.arange(start, end)]))
            if end == last:
                leaves.append(ways[-1])
        return leaves


def _no_indices() -> Ints:
    return np.empty(0, np.int64)


def build(
    sequences: Sequence[TokenSequence],
    samples: Sequence[int] | None = None,
    least_shared: int = LEAST_SHARED,
    observed: bool = False,
) -> Trie:
    """The sequences as one trie; stored token ids are used as they are.

    ``samples`` names the sequences in ``terms.sample`` (their order by default). The terms are the spoken tokens, with
    ``observed`` all tokens. The first token of a sequence has nothing before it and is never one.

    Raises:
        InvalidInput: a sequence has another number of mask entries or log-probabilities than of tokens.
    """
    names = range(len(sequences)) if samples is None else samples
    path, before = _no_indices(), list[int]()
    fresh: list[tuple[Ints, Ints, Ints]] = []
    terms: list[tuple[Any, ...]] = []
    count = 0
    for index in sorted(range(len(sequences)), key=lambda i: sequences[i].ids):
        one = sequences[index]
        _check(one, names[index])
        shared = common_prefix(before, one.ids)
        shared = shared if shared >= least_shared else 0
        new = np.arange(count, count + len(one.ids) - shared)
        path, before, count = np.concatenate([path[:shared], new]), one.ids, count + len(new)
        fresh.append(_tokens(one.ids, shared, path))
        terms.append(_terms(one, names[index], path, observed))
    ids, depth, parent = (_joined([part[k] for part in fresh], np.int64) for k in range(3))
    total = sum(len(one.ids) for one in sequences)
    return Trie(ids, depth, parent, *_segments(parent), _all_terms(terms), total)


def common_prefix(first: list[int], second: list[int]) -> int:
    """How many leading tokens two sequences share."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _check(one: TokenSequence, name: int) -> None:
    counts = (len(one.ids), len(one.mask), len(one.logprobs))
    if len(set(counts)) > 1:
        raise InvalidInput(f"sequence {name}", counts, "give as many mask entries and log-probabilities as tokens")


def _tokens(ids: list[int], shared: int, path: Ints) -> tuple[Ints, Ints, Ints]:
    """Ids, depths and parents of the tokens that are new on ``path``."""
    parent = np.concatenate([[-1], path[:-1]])[shared:] if len(path) else path
    return np.asarray(ids[shared:], np.int64), np.arange(shared, len(ids)), parent.astype(np.int64)


def _terms(one: TokenSequence, name: int, path: Ints, observed: bool) -> tuple[Any, ...]:
    spoken = np.asarray(one.mask, bool)
    chosen = np.ones_like(spoken) if observed else spoken.copy()
    chosen[:1] = False
    position = np.flatnonzero(chosen)
    old = np.asarray(one.logprobs, np.float32)
    return path[position], np.full(len(position), name, np.int64), position, old[position], spoken[position]


def _all_terms(parts: list[tuple[Any, ...]]) -> Terms:
    dtypes = (np.int64, np.int64, np.int64, np.float32, np.bool_)
    return Terms(*(_joined([part[k] for part in parts], dtype) for k, dtype in enumerate(dtypes)))


def _joined(parts: list[Any], dtype: Any) -> npt.NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *parts]).astype(dtype, copy=False)


def _segments(parent: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """``start``, ``end``, ``last`` and ``above`` of the runs of tokens without a branch."""
    tokens = len(parent)
    children = np.bincount(parent[parent >= 0], minlength=tokens)
    goes_on = (parent == np.arange(tokens) - 1) & (parent >= 0)
    goes_on[goes_on] = children[parent[goes_on]] == 1
    start = np.flatnonzero(~goes_on)
    end = np.append(start[1:], tokens) if tokens else start
    segment = np.repeat(np.arange(len(start)), end - start)
    above = np.where(parent[start] >= 0, segment[parent[start]], -1) if tokens else start
    last = end.copy()
    for index in range(len(start) - 1, -1, -1):
        if above[index] >= 0:
            last[above[index]] = max(last[above[index]], last[index])
    return start, end, last, above
