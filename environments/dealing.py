"""How scenarios are dealt out to splits: by a hash of what they hold, so that no two splits can share one.

Half of all contents are for training, a quarter for validation and a quarter held out. A generator of endless scenarios
draws until one falls into the split; a fixed bank is divided once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from itertools import count
from random import Random
from typing import Any, Generic, NamedTuple, TypeVar

from rl.errors import InvalidInput
from rl.records import ScenarioRef

Content = TypeVar("Content")

TRAIN_SHARE = 128
VALIDATION_SHARE = 64
"""Shares of 256 values of the hash's first byte; the rest is held out."""


class Dealt(NamedTuple, Generic[Content]):
    """What a scenario holds, and its SHA-256 in hex."""

    content: Content
    digest: str


def digest_of(content: Any) -> str:
    """SHA-256, in hex, of the canonical JSON of what a scenario holds."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def split_of(digest: str) -> str:
    """The split that a scenario with this content hash belongs to."""
    first = int(digest[:2], 16)
    if first < TRAIN_SHARE:
        return "train"
    return "validation" if first < TRAIN_SHARE + VALIDATION_SHARE else "held_out"


def deal(ref: ScenarioRef, draw: Callable[[Random], Content], key: Callable[[Content], Any]) -> Dealt[Content]:
    """The scenario ``ref`` of endless ones: the first drawn one that belongs to the split, two to four on average.

    ``draw`` makes what a scenario holds from a source of chance of its own; ``key`` is its part that decides whether
    two scenarios are the same, as JSON.
    """
    for attempt in count():
        content = draw(Random(f"{ref.id}/{attempt}"))
        digest = digest_of(key(content))
        if split_of(digest) == ref.split:
            return Dealt(content, digest)
    raise AssertionError("unreachable: the sequence has no end")


class Bank(Generic[Content]):
    """Scenarios of which there are only so many, divided by their hashes; seeds count them from 0."""

    def __init__(self, contents: Mapping[str, Content]) -> None:
        """``contents`` are by content hash: what is there twice is one scenario."""
        self._by_split: dict[str, list[Dealt[Content]]] = {"train": [], "validation": [], "held_out": []}
        for digest, content in sorted(contents.items()):
            self._by_split[split_of(digest)].append(Dealt(content, digest))

    def size(self, split: str) -> int:
        """How many scenarios the split has."""
        return len(self._by_split[split])

    def deal(self, ref: ScenarioRef) -> Dealt[Content]:
        """The scenario ``ref``.

        Raises:
            InvalidInput: the split has no such seed.
        """
        found = self._by_split[ref.split]
        if ref.seed >= len(found):
            raise InvalidInput("scenario", ref.id, f"{ref.environment} has {len(found)} scenarios of this split")
        return found[ref.seed]
