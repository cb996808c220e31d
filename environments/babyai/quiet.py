"""A minigrid level that prints nothing and draws no images: what both BabyAI environments are played on."""

# Minigrid's methods are only partly annotated.
# mypy: allow-untyped-calls

from __future__ import annotations

from typing import Any

# This module is the lazy part: `environments.load` imports it when an environment on minigrid is asked for.
from minigrid.core.roomgrid import RoomGrid  # noqa: TID253
from minigrid.envs.babyai.core.roomgrid_level import RejectSampling, RoomGridLevel  # noqa: TID253


class Quiet(RoomGridLevel):
    """Mixed in before a level of minigrid's: same random draws, same layouts, same verifier.

    Minigrid prints each layout it rejects and encodes an image at each step; here neither happens.
    """

    instrs: Any
    carrying: Any

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
