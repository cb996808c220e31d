"""Which base models a server has, and whether an adapter is for one of them.

What breaks without this: an adapter can be loaded on another base model of the same shape. It answers there with other
probabilities, and its calls are taken for the version's own.
"""

from __future__ import annotations

import os.path
from collections.abc import Collection, Iterable

from rl.checkpoint_files import place_of


class Bases:
    """The base models of one server: those it was configured with, or else those that it says it has."""

    def __init__(self, given: Collection[str] = ()) -> None:
        self.are_given = bool(given)
        self.known: frozenset[str] | None = frozenset(given) if given else None
        """Their names and folders; None where nobody knows yet."""

    def heard(self, names: Iterable[str]) -> None:
        """The server says that it has these."""
        if not self.are_given:
            self.known = frozenset(names)


def lack_of_base(known: Collection[str] | None, base: str) -> str:
    """Why an adapter for ``base`` cannot be loaded there; empty where it can, or ``known`` is None."""
    if known is None or any(is_same(one, base) for one in known):
        return ""
    has = f"has the base model {' or '.join(sorted(known))}" if known else "does not say which base model it has"
    return f"{has}, and the version is for {base or 'an unknown one'}; its bases in RLFLEET_UPSTREAMS may name that too"


def is_same(one: str | None, other: str) -> bool:
    """Whether both are the same folder: a server may say where a link leads, or where its host has the artifacts."""
    if one is None or one == other:
        return one == other
    place = place_of(one)
    return os.path.realpath(one) == os.path.realpath(other) or (place is not None and place == place_of(other))
