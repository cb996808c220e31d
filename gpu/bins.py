"""Groups of sequences as tries of at most a budget of tokens: what one forward and backward pass computes."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from gpu.tries import LEAST_SHARED, NOTHING_SHARED, Trie, build, common_prefix
from rl.records import Sequence as TokenSequence

Layout = Literal["tree", "packed", "padded"]
"""How a bin is computed: what sequences share once, each sequence whole without padding, or as padded rows."""


@dataclass(frozen=True)
class Shares:
    """Tokens of some groups: ``unique`` in tries, ``sequence`` in all sequences, ``padded`` in a batch per group."""

    unique: int
    sequence: int
    padded: int

    @property
    def prefix(self) -> float:
        """The share of all sequences' tokens that stand in a prefix already stored, 0 to 1."""
        return 1 - self.unique / self.sequence if self.sequence else 0.0

    @property
    def token_ratio(self) -> float:
        """How many times fewer tokens a trie computes than padded batches."""
        return self.padded / self.unique if self.unique else 1.0


def measure(groups: Sequence[Sequence[TokenSequence]]) -> Shares:
    """Count the tokens of ``groups``, each as a trie and as a padded batch of its own."""
    unique = sequence = padded = 0
    for group in groups:
        unique += _filled(range(len(group)), group, LEAST_SHARED).tokens
        sequence += sum(len(one.ids) for one in group)
        padded += len(group) * max((len(one.ids) for one in group), default=0)
    return Shares(unique, sequence, padded)


def pack(
    groups: Sequence[Sequence[TokenSequence]],
    budget: int,
    layout: Layout = "tree",
    least_shared: int = LEAST_SHARED,
    observed: bool = False,
) -> list[Trie]:
    """All sequences in bins that cost at most ``budget`` tokens; one that costs more alone has a bin of its own.

    A group stays together where it fits, and is cut in the order of its trie where it does not. Larger pieces go
    first, each into the first bin with room, counting what it shares with what is there. For ``padded`` a bin costs
    its rows times the longest, and rows go by length. ``terms.sample`` indexes the sequences of all groups in order.
    """
    flat = [one for group in groups for one in group]
    if layout == "padded":
        contents = _by_length(flat, budget)
        least_shared = NOTHING_SHARED
    else:
        least_shared = least_shared if layout == "tree" else NOTHING_SHARED
        contents = [one.samples for one in _first_fit(_pieces(groups, flat, budget, least_shared), flat, budget)]
    return [build([flat[i] for i in samples], samples, least_shared, observed) for samples in contents]


def cost(trie: Trie, layout: Layout) -> int:
    """The tokens that a bin of ``pack`` costs in that layout."""
    if layout != "padded":
        return len(trie)
    paths = trie.paths()
    return len(paths) * max(map(len, paths), default=0)


@dataclass
class _Bin:
    """Samples with the number of tokens of their trie; ``ids`` are sorted, so that neighbours share most."""

    least_shared: int
    samples: list[int] = field(default_factory=list)
    ids: list[list[int]] = field(default_factory=list)
    tokens: int = 0

    def shared(self, ids: list[int]) -> int:
        """How many leading tokens of ``ids`` are here already."""
        if self.least_shared == NOTHING_SHARED:
            return 0
        at = bisect_left(self.ids, ids)
        found = max((common_prefix(near, ids) for near in self.ids[max(at - 1, 0) : at + 1]), default=0)
        return found if found >= self.least_shared else 0

    def add(self, sample: int, ids: list[int]) -> None:
        self.tokens += len(ids) - self.shared(ids)
        self.samples.append(sample)
        insort(self.ids, ids)

    def has_room(self, piece: _Bin, budget: int) -> bool:
        """Whether ``piece`` fits, given what its first sequence shares: other sequences can only share more."""
        over = self.tokens + piece.tokens - budget
        return over <= 0 or (over <= len(piece.ids[0]) and over <= self.shared(piece.ids[0]))


def _filled(samples: Sequence[int], flat: Sequence[TokenSequence], least_shared: int) -> _Bin:
    one = _Bin(least_shared)
    for sample in samples:
        one.add(sample, flat[sample].ids)
    return one


def _pieces(
    groups: Sequence[Sequence[TokenSequence]], flat: Sequence[TokenSequence], budget: int, least_shared: int
) -> list[_Bin]:
    """Each group, cut where it exceeds the budget."""
    pieces: list[_Bin] = []
    first = 0
    for group in groups:
        piece = _Bin(least_shared)
        for sample in sorted(range(first, first + len(group)), key=lambda i: flat[i].ids):
            ids = flat[sample].ids
            if piece.samples and piece.tokens + len(ids) - piece.shared(ids) > budget:
                pieces.append(piece)
                piece = _Bin(least_shared)
            piece.add(sample, ids)
        pieces += [piece] if piece.samples else []
        first += len(group)
    return pieces


def _first_fit(pieces: list[_Bin], flat: Sequence[TokenSequence], budget: int) -> list[_Bin]:
    bins: list[_Bin] = []
    for piece in sorted(pieces, key=lambda one: -one.tokens):
        room = next((one for one in bins if one.has_room(piece, budget)), None)
        if room is None:
            bins.append(piece)
            continue
        for sample in piece.samples:
            room.add(sample, flat[sample].ids)
    return bins


def _by_length(flat: Sequence[TokenSequence], budget: int) -> list[list[int]]:
    """Samples by length, in runs whose count times longest keeps the budget."""
    bins: list[list[int]] = []
    for sample in sorted(range(len(flat)), key=lambda i: len(flat[i].ids)):
        if bins and len(flat[sample].ids) * (len(bins[-1]) + 1) <= budget:
            bins[-1].append(sample)
        else:
            bins.append([sample])
    return bins
