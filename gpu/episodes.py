"""A trajectory as it is trained on, and bins of such: what one forward and backward pass computes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpu.bins import Layout, cost, pack
from gpu.tries import Trie
from rl.records import Sequence as TokenSequence

Floats = NDArray[np.float32]
Together = Literal["episode", "group"]
"""What must not be cut: the loss needs all tokens of an episode, or of a whole group (a pair), in one bin."""

Column = Literal["old_logp", "reference", "value", "advantage", "returns", "weight"]
"""What can be known of a token before the first update."""
UNBOUNDED = 1 << 62


@dataclass(frozen=True)
class Known:
    """What was computed of an episode's spoken tokens before the first update, [spoken] each, in sequence order.

    ``old_logp`` and ``value`` are the starting policy's, ``reference`` the log-probability under the reference, nats;
    ``weight`` multiplies a token's loss. None where the objective does not ask for it, or stored numbers do.
    """

    old_logp: Floats | None = None
    reference: Floats | None = None
    value: Floats | None = None
    advantage: Floats | None = None
    returns: Floats | None = None
    weight: Floats | None = None


@dataclass(frozen=True)
class Episode:
    """One trajectory as token sequences, with the advantage of all its tokens (0 where it is cloned).

    ``group`` names the trajectories that it most likely begins like. ``weight`` multiplies a cloned one's likelihood,
    ``reward`` is its score under the overlong rule, ``staleness`` how many versions ago its policy was.
    """

    sequences: list[TokenSequence]
    advantage: float = 0.0
    group: str = ""
    weight: float = 1.0
    reward: float = 0.0
    truncated: bool = False
    staleness: int = 0
    known: Known = Known()

    @property
    def spoken(self) -> int:
        """How many tokens the policy spoke."""
        return sum(sum(one.mask) for one in self.sequences)

    @property
    def length(self) -> int:
        return sum(len(one.ids) for one in self.sequences)


@dataclass(frozen=True, eq=False)
class Bin:
    """Sequences of a batch as one trie, whose terms' samples index ``spans``.

    A span is the place in ``batch`` of a sequence's episode, and which of that one's spoken tokens it spoke.
    """

    trie: Trie
    spans: Sequence[tuple[int, int, int]]
    batch: Sequence[Episode]

    def __len__(self) -> int:
        return len(self.trie)

    def episode(self) -> NDArray[np.int64]:
        """The place in the batch of each term's episode, [N]."""
        owner = np.array([place for place, _, _ in self.spans], dtype=np.int64)
        return owner[self.trie.terms.sample]

    def gather(self, column: Column, device: torch.device) -> Tensor | None:
        """A column of what is known of the batch's spoken tokens, at this bin's terms, [N]; None where it is not.

        A sequence is whole in one bin, and its terms are the tokens it spoke, in order.
        """
        columns = [values for one in self.batch if (values := getattr(one.known, column)) is not None]
        if len(columns) < len(self.batch):
            return None
        spans = [self.spans[sample] for sample, _ in groupby(self.trie.terms.sample.tolist())]
        parts = [columns[place][start:stop] for place, start, stop in spans]
        return torch.from_numpy(np.concatenate([np.empty(0, np.float32), *parts])).to(device)


def bins_of(
    batch: Sequence[Episode], budget: int, layout: Layout, together: Together | None = None, observed: bool = False
) -> list[Bin]:
    """The batch in bins of at most ``budget`` tokens; with ``observed`` what was read is among the terms."""
    groups = _groups(batch)
    bins: list[Bin] = []
    for part in _apart(groups, layout, together) if together else [groups]:
        packed = pack(sequences_of(part), budget, layout, observed=observed)
        spans = list(_spans(part))
        bins += [Bin(one, spans, batch) for one in packed]
    return bins


def least_budget(episodes: Sequence[Episode], layout: Layout, together: Together | None) -> int:
    """The tokens of the largest bin of ``episodes`` that cannot be cut."""
    if together is None:
        return max((len(one.ids) for episode in episodes for one in episode.sequences), default=0)
    if together == "episode":
        return max((_tokens_together(one.sequences, layout) for one in episodes), default=0)
    groups = sequences_of(_groups(episodes))
    return max((_tokens_together(group, layout) for group in groups), default=0)


def in_groups(episodes: Iterable[Episode]) -> list[list[TokenSequence]]:
    """The sequences of each group, groups in order of their first episode."""
    return sequences_of(_groups(episodes))


def in_turn_order(episode: Episode) -> NDArray[np.int64]:
    """The indices of an episode's spoken tokens in the order in which they were spoken, [spoken]."""
    turns = [turn for one in episode.sequences for turn in one.turns]
    return np.argsort(turns, kind="stable") if len(turns) == episode.spoken else np.arange(episode.spoken)


Groups = list[list[tuple[TokenSequence, int]]]
"""Sequences with the place of their episode in the batch."""


def sequences_of(groups: Groups) -> list[list[TokenSequence]]:
    """The sequences alone."""
    return [[one for one, _ in group] for group in groups]


def _groups(episodes: Iterable[Episode]) -> Groups:
    found: dict[str, list[tuple[TokenSequence, int]]] = {}
    for place, episode in enumerate(episodes):
        found.setdefault(episode.group, []).extend((one, place) for one in episode.sequences)
    return list(found.values())


def _spans(groups: Groups) -> Iterator[tuple[int, int, int]]:
    """Of each sequence; those of an episode stand in its order."""
    at: dict[int, int] = {}
    for sequence, place in (one for group in groups for one in group):
        start = at.get(place, 0)
        at[place] = start + sum(sequence.mask)
        yield place, start, at[place]


def _apart(groups: Groups, layout: Layout, together: Together) -> Iterator[Groups]:
    """What to pack at once so that nothing is cut: an episode of several sequences is a group of its own.

    Groups that fit stay together in a trie. Padded rows go by length, so there each group is packed alone.
    """
    cut: Groups = []
    for group in groups:
        episodes = [list(one) for _, one in groupby(group, key=itemgetter(1))]
        cut += [group] if together == "group" or len(episodes) == len(group) else episodes
    yield from [[group] for group in cut] if layout == "padded" else [cut]


def _tokens_together(sequences: list[TokenSequence], layout: Layout) -> int:
    if len(sequences) == 1:
        return len(sequences[0].ids)
    return sum(cost(one, layout) for one in pack([sequences], UNBOUNDED, layout))
