"""Minigrid's GoToLocal level (room 6, 4 distractors) and how its layouts are dealt out to splits.

The split of a layout is decided by a hash of what it holds: half are for training, a quarter for validation
and a quarter held out. So no two splits can share a layout, whatever the seeds.
"""

# Minigrid's methods are only partly annotated.
# mypy: allow-untyped-calls

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import lru_cache
from itertools import count

# This module is the lazy part: `environments.load` imports it when the level is asked for.
from minigrid.envs.babyai.goto import GoToLocal  # noqa: TID253

from environments.babyai.quiet import Quiet
from environments.dealing import split_of

STEP_LIMIT = 64
"""Of the level, in primitive steps: out of reach in three turns, so that only turns end an episode."""


class Level(Quiet, GoToLocal):
    """The registered BabyAI-GoToLocalS6N4 level: same random draws, same layouts, same verifier."""

    def __init__(self, seed: int) -> None:
        super().__init__(room_size=6, num_dists=4, max_steps=STEP_LIMIT)
        self.reset(seed=seed)

    def objects(self) -> Iterator[tuple[int, int, str]]:
        """Column, row and name (``grey key``) of every object."""
        for index, cell in enumerate(self.grid.grid):
            if cell is not None and cell.type != "wall":
                yield index % self.grid.width, index // self.grid.width, f"{cell.color} {cell.type}"


def content_hash(level: Level) -> str:
    """SHA-256 of the layout as the agent meets it: mission, walls and objects relative to its pose.

    Layouts that differ by a rotation of the room read the same to the agent, and have one hash.
    """
    ax, ay, direction = level.pose
    dx, dy = ((1, 0), (0, 1), (-1, 0), (0, -1))[direction]

    def relative(x: int, y: int) -> tuple[int, int]:
        return (x - ax) * dx + (y - ay) * dy, (y - ay) * dx - (x - ax) * dy

    corners = sorted(relative(x, y) for x in (0, level.width - 1) for y in (0, level.height - 1))
    objects = sorted((*relative(x, y), name) for x, y, name in level.objects())
    return hashlib.sha256(json.dumps([level.mission, corners[0], corners[-1], objects]).encode()).hexdigest()


@lru_cache(maxsize=65536)
def layout(split: str, seed: int) -> tuple[int, str]:
    """Minigrid's seed and the content hash of scenario ``(split, seed)``.

    The scenario's own sequence of minigrid seeds is ``seed * 65536 + 0, 1, 2, ...``; it is the first whose
    layout falls in the split: two to four tries on average.
    """
    for attempt in count(seed << 16):
        digest = content_hash(Level(attempt))
        if split_of(digest) == split:
            return attempt, digest
    raise AssertionError("unreachable: the sequence has no end")
