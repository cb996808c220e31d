"""Counts, means and spreads of very many groups in a few numbers each, whatever the order in which values come."""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Keys = NDArray[np.uint64]
Counts = NDArray[np.int64]

PENDING = 1 << 18
"""Values that wait, 16 bytes each, before they are folded into their groups."""


def key_of(*parts: str) -> int:
    """64 bits that stand for ``parts``: two of 10 million differing ones collide with probability 3e-6."""
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


@dataclass(frozen=True)
class Moments:
    """Of each group, in the order of ``key``: how many values, their mean, and the sum of squares around it, [G] each.

    ``squares`` is exactly 0 where all values of a group are equal.
    """

    key: Keys
    count: Counts
    mean: Floats
    squares: Floats

    @property
    def differing(self) -> NDArray[np.bool_]:
        """Which groups have values that differ, [G]."""
        found: NDArray[np.bool_] = self.squares > 0
        return found

    def spread(self) -> float | None:
        """The mean over groups of at least two of their unbiased variances; None without such a group."""
        several = self.count > 1
        if not several.any():
            return None
        return float((self.squares[several] / (self.count[several] - 1)).mean())

    def sizes(self) -> dict[int, int]:
        """How many groups there are of each size."""
        size, groups = np.unique(self.count, return_counts=True)
        return dict(zip(size.tolist(), groups.tolist(), strict=True))


@dataclass
class Groups:
    """Takes values one by one; 32 bytes a group are held, and at most ``PENDING`` values that wait."""

    _moments: Moments = field(default_factory=lambda: _moments([], []))
    _keys: array[int] = field(default_factory=lambda: array("Q"))
    _values: array[float] = field(default_factory=lambda: array("d"))

    def add(self, key: int, value: float) -> None:
        """Take a value of the group ``key``."""
        self._keys.append(key)
        self._values.append(value)
        if len(self._keys) >= PENDING:
            self.moments()

    def moments(self) -> Moments:
        """What is known of every group so far."""
        if self._keys:
            self._moments = merged(self._moments, _moments(self._keys, self._values))
            self._keys, self._values = array("Q"), array("d")
        return self._moments

    def keep(self, divisor: int) -> None:
        """Forget the groups whose key is no multiple of ``divisor``."""
        found = self.moments()
        kept = found.key % np.uint64(divisor) == 0
        self._moments = Moments(found.key[kept], found.count[kept], found.mean[kept], found.squares[kept])


def _moments(keys: array[int] | list[int], values: array[float] | list[float]) -> Moments:
    """Of values as they came. Each group is measured from its first value, so that equal values differ by 0."""
    value = np.array(values, dtype=np.float64)
    key, first, member = np.unique(np.array(keys, dtype=np.uint64), return_index=True, return_inverse=True)
    count = np.bincount(member, minlength=len(key))
    away = value - value[first][member]
    shift = np.bincount(member, away, minlength=len(key)) / np.maximum(count, 1)
    squares = np.bincount(member, np.square(away - shift[member]), minlength=len(key)).astype(np.float64)
    return Moments(key, count, value[first] + shift, squares)


def merged(old: Moments, new: Moments) -> Moments:
    """Both together, by the parallel formula of Chan, Golub and LeVeque (1979)."""
    at = np.searchsorted(old.key, new.key)
    known = at < len(old.key)
    known[known] = old.key[at[known]] == new.key[known]
    place, fresh = at[known], ~known
    added, total = new.count[known], old.count[place] + new.count[known]
    delta = new.mean[known] - old.mean[place]
    mean = old.mean[place] + delta * added / total
    squares = old.squares[place] + new.squares[known] + delta**2 * (total - added) * added / total

    def column(before: NDArray[Any], changed: NDArray[Any], after: NDArray[Any]) -> NDArray[Any]:
        whole = before.copy()
        whole[place] = changed
        return np.insert(whole, at[fresh], after[fresh])

    return Moments(
        key=np.insert(old.key, at[fresh], new.key[fresh]),
        count=column(old.count, total, new.count),
        mean=column(old.mean, mean, new.mean),
        squares=column(old.squares, squares, new.squares),
    )
