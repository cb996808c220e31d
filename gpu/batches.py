"""Which episodes each optimizer step takes, whatever trains on them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from typing import TypeVar

from gpu.episodes import Episode
from rl.config import TrainConfig
from rl.objectives import Cloning, Dpo, OnPolicy

T = TypeVar("T")


def total_steps(config: TrainConfig, episodes: int) -> int:
    """How many optimizer steps a training on ``episodes`` episodes takes."""
    if isinstance(config, OnPolicy):
        return config.epochs * min(config.mini_batches, episodes)
    return config.steps if episodes else 0


def batches(episodes: list[Episode], config: TrainConfig, lineage: int) -> Iterator[list[Episode]]:
    """The episodes of each optimizer step, shuffled by the seed and how far the lineage has come, in steps.

    On policy every episode is taken once an epoch; where there are fewer than mini-batches, each is a batch.
    """
    rng = random.Random(f"{config.seed}/{lineage}")
    if isinstance(config, Cloning):
        return islice(drawn(episodes, config.batch_episodes, rng), config.steps)
    if isinstance(config, Dpo):
        pairs = [episodes[place : place + 2] for place in range(0, len(episodes), 2)]
        taken = islice(drawn(pairs, config.batch_pairs, rng), config.steps)
        return ([one for pair in batch for one in pair] for batch in taken)
    orders = (rng.sample(episodes, len(episodes)) for _ in range(config.epochs))
    count = min(config.mini_batches, len(episodes))
    return (order[start::count] for order in orders for start in range(count))


def drawn(items: list[T], count: int, rng: random.Random) -> Iterator[list[T]]:
    """``count`` of the items at a time for ever, or all where there are fewer; each pass over them in another order."""
    order: list[T] = []
    while True:
        if len(order) < min(count, len(items)):
            order = rng.sample(items, len(items))
        order, batch = order[count:], order[:count]
        yield batch
