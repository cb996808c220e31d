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
from typing import Any

# This module is the lazy part: `environments.load` imports it when the level is asked for.
from minigrid.core.roomgrid import RoomGrid  # noqa: TID253
from minigrid.envs.babyai.core.roomgrid_level import RejectSampling  # noqa: TID253
from minigrid.envs.babyai.goto import GoToLocal  # noqa: TID253

TRAIN_SHARE = 128
VALIDATION_SHARE = 64
"""Shares of 256 values of the hash's first byte; the rest is held out."""

STEP_LIMIT = 64
"""Of the level, in primitive steps: out of reach in three turns, so that only turns end an episode."""


class Level(GoToLocal):
    """The registered BabyAI-GoToLocalS6N4 level: same random draws, same layouts, same verifier.

    Minigrid prints each layout it rejects and renders an image at each step; here neither happens.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(room_size=6, num_dists=4, max_steps=STEP_LIMIT)
        self.reset(seed=seed)

    def _gen_grid(self, width: int, height: int) -> None:
        while not self._drew_layout(width, height):
            pass
        self.surface = self.instrs.surface(self)
        self.mission = self.surface

    def _drew_layout(self, width: int, height: int) -> bool:
        try:
            RoomGrid._gen_grid(self, width, height)
            self.gen_mission()
            self.validate_instrs(self.instrs)
        except (RecursionError, RejectSampling):
            return False
        return True

    def gen_obs(self) -> dict[str, Any]:
        """Nothing: the text layer reads the grid itself."""
        return {}

    @property
    def pose(self) -> tuple[int, int, int]:
        """Column, row and direction of the agent; 0 is east, and directions turn clockwise."""
        return int(self.agent_pos[0]), int(self.agent_pos[1]), int(self.agent_dir)

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


def split_of(digest: str) -> str:
    """The split that a layout with this content hash belongs to."""
    first = int(digest[:2], 16)
    if first < TRAIN_SHARE:
        return "train"
    return "validation" if first < TRAIN_SHARE + VALIDATION_SHARE else "held_out"


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
