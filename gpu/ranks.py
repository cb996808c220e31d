"""The processes of one training, each with a device of its own: how they divide its work and agree on what to do.

A training on one device has one, which asks nobody. Several all run the same steps: what they do depends on the
command, on what the first one says, and on sums over all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from gpu import layouts
from gpu.episodes import Bin
from gpu.sharding import Root, shard
from gpu.tries import build
from rl.records import Sequence as TokenSequence

T = TypeVar("T")

STRATEGY = "fsdp2"
BACKENDS = {"cpu": "gloo", "cuda": "nccl"}
"""What tensors of a device's type go through."""
IDLE = Bin(build([TokenSequence(episode=0, ids=[0], mask=[0], logprobs=[0.0])]), [], [])
"""What goes through the model where a process has no bin left and the others have: one token, no terms."""


class Ranks:
    """This process among all of a training. Collectives are called by all of them, in the same order."""

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.rank, self.world = rank, world
        self._root: Root | None = None
        self._backend = ""

    @property
    def first(self) -> bool:
        """Whether this process is the one that speaks and writes."""
        return self.rank == 0

    def manifest(self) -> dict[str, object]:
        """What a manifest says of several."""
        if self.world == 1:
            return {}
        return {"sharding": {"world_size": self.world, "strategy": STRATEGY, "backend": self._backend}}

    def shard(self, model: Any, device: torch.device) -> None:
        """Leave this process its part of ``model``, on ``device``; alone it keeps all of it."""
        if self.world > 1:
            layouts.foresee(model, device)
            self._backend = BACKENDS[device.type]
            self._root = shard(model, device, self.world)

    def run(self, model: Any, work: Callable[[Any], T]) -> T:
        """What ``work`` makes of the model; the parts of it that lie elsewhere are there meanwhile."""
        return work(model) if self._root is None else self._root(work)

    def mine(self, bins: Sequence[Bin]) -> list[Bin]:
        """The bins of this process. All have equally many: where there are too few for that, one is ``IDLE``."""
        rounds = -(-len(bins) // self.world)
        own = list(bins[self.rank :: self.world])
        return own + [IDLE] * (rounds - len(own))

    def agreed(self, ask: Callable[[], bool]) -> Callable[[], bool]:
        """A question that all processes ask at once, and that the first one answers."""
        if self.world == 1:
            return ask

        def answer() -> bool:
            said = torch.tensor(int(self.first and ask()))
            dist.broadcast(said, 0)
            return bool(said)

        return answer

    def add(self, values: Tensor) -> Tensor:
        """``values`` added up over all processes, in place."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def sums(self, found: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
        """Sums over all processes of the numbers under ``names``; those that no process has are left out."""
        if self.world == 1:
            return dict(found)
        numbers = [[found.get(name, 0.0) for name in names], [float(name in found) for name in names]]
        totals, seen = self.add(torch.tensor(numbers, dtype=torch.float64)).tolist()
        return {name: total for name, total, there in zip(names, totals, seen, strict=True) if there}

    def least(self, number: int) -> int:
        """The smallest that any process has."""
        return -self.most(-number)

    def most(self, number: int) -> int:
        """The largest that any process has."""
        if self.world == 1:
            return number
        found = torch.tensor(number, dtype=torch.int64)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)


ALONE = Ranks()
