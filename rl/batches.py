"""Which episodes each optimizer step takes, whatever trains on them, and so which of them no step takes."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from rl.config import TrainConfig
from rl.objective_parts import Ptx
from rl.objectives import Cloning, Dpo, OnPolicy

T = TypeVar("T")


def total_steps(config: TrainConfig, episodes: int) -> int:
    """How many optimizer steps a training on ``episodes`` episodes takes."""
    if isinstance(config, OnPolicy):
        return config.epochs * min(config.mini_batches, episodes)
    return config.steps if episodes else 0


def batches(episodes: Sequence[T], config: TrainConfig, lineage: int) -> Iterator[list[T]]:
    """The episodes of each optimizer step, shuffled by the seed and how far the lineage has come, in steps.

    On policy every episode is taken once an epoch; where there are fewer than mini-batches, each is a batch. The
    episodes of DPO are pairs, one after the other.
    """
    rng = random.Random(f"{config.seed}/{lineage}")
    if isinstance(config, Cloning):
        return islice(_drawn(episodes, config.batch_episodes, rng), config.steps)
    if isinstance(config, Dpo):
        pairs = [episodes[place : place + 2] for place in range(0, len(episodes), 2)]
        several = islice(_drawn(pairs, config.batch_pairs, rng), config.steps)
        return ([one for pair in batch for one in pair] for batch in several)
    orders = (rng.sample(episodes, len(episodes)) for _ in range(config.epochs))
    count = min(config.mini_batches, len(episodes))
    return (order[start::count] for order in orders for start in range(count))


def curated_batches(curated: Sequence[T], rule: Ptx, config: TrainConfig, lineage: int) -> Iterator[list[T]]:
    """The curated episodes that each optimizer step clones beside its own; without end."""
    return _drawn(curated, rule.batch_episodes, random.Random(f"{config.seed}/{lineage}/ptx"))


def places_taken(steps: Iterable[Iterable[int]], updates: int, count: int) -> frozenset[int]:
    """Which of the places 0 to ``count`` - 1 the first ``updates`` of the steps take.

    The steps are those of ``batches`` or ``curated_batches`` of ``range(count)``: which places these take does not
    depend on what stands there.
    """
    found: set[int] = set()
    for places in islice(steps, updates):
        found.update(places)
        if len(found) == count:
            break
    return frozenset(found)


def _drawn(items: Sequence[T], count: int, rng: random.Random) -> Iterator[list[T]]:
    """``count`` of the items at a time for ever, or all where there are fewer; each pass over them in another order."""
    order: list[T] = []
    at = 0
    while True:
        if len(order) - at < min(count, len(items)):
            order, at = rng.sample(items, len(items)), 0
        yield order[at : at + count]
        at += count
