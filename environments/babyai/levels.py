"""The forty BabyAI levels that AgentGym plays, and what makes a layout of theirs what it is.

There is one for each of minigrid's level classes: the last registered of its settings, mostly the largest.
"""

# Minigrid's methods are only partly annotated.
# mypy: allow-untyped-calls

from __future__ import annotations

from functools import cache
from importlib import import_module
from itertools import product
from typing import Any, cast

# This module is the lazy part: `environments.load` imports it when the levels are asked for.
import gymnasium  # noqa: TID253

from environments.babyai.quiet import Quiet

NAMES = (
    *("GoToRedBallGrey", "GoToRedBall", "GoToRedBallNoDists", "GoToObjS6", "GoToLocalS8N7", "GoToObjMazeS7"),
    *("GoToImpUnlock", "GoToSeqS5R2", "GoToRedBlueBall", "GoToDoor", "GoToObjDoor", "Open", "OpenRedDoor"),
    *("OpenDoorLoc", "OpenRedBlueDoorsDebug", "OpenDoorsOrderN4Debug", "Pickup", "UnblockPickup", "PickupLoc"),
    *("PickupDistDebug", "PickupAbove", "PutNextLocalS6N4", "PutNextS7N4Carrying", "Unlock", "UnlockLocalDist"),
    *("KeyInBox", "UnlockPickupDist", "BlockedUnlockPickup", "UnlockToUnlock", "ActionObjDoor", "FindObjS7"),
    *("KeyCorridorS6R3", "OneRoomS20", "MoveTwoAcrossS8N9", "SynthS5R2", "SynthLoc", "SynthSeq", "MiniBossLevel"),
    *("BossLevel", "BossLevelNoUnlock"),
)
"""In AgentGym's order, which is minigrid's own."""

ENDLESS = 1 << 30
"""Primitive steps that a level allows: turns alone end an episode."""


def registered(name: str) -> str:
    """The level's name in gymnasium's registry; all are version 0 but one."""
    return f"BabyAI-{name}-v{1 if name == 'GoToObjS6' else 0}"


@cache
def _recipe(name: str) -> tuple[type[Quiet], dict[str, Any]]:
    """The level's class, made quiet, and its settings."""
    spec = gymnasium.spec(registered(name))
    module, _, kind = str(spec.entry_point).partition(":")
    base = getattr(import_module(module), kind)
    return cast(type[Quiet], type(name, (Quiet, base), {})), dict(spec.kwargs)


def make(name: str, seed: int) -> Quiet:
    """The level's layout with minigrid's seed."""
    kind, settings = _recipe(name)
    level = kind(**settings)
    level.reset(seed=seed)
    level.max_steps = ENDLESS
    return level


def content(level: Quiet) -> list[Any]:
    """What the layout holds, as the agent meets it: mission, its strictness, and every cell relative to the pose.

    Layouts that differ by a turn of the whole grid read the same to the agent, and have one content.
    """
    ax, ay, direction = level.pose
    dx, dy = ((1, 0), (0, 1), (-1, 0), (0, -1))[direction]
    cells = []
    for x, y in product(range(level.width), range(level.height)):
        cell = level.grid.get(x, y)
        if cell is not None:
            ahead, right = (x - ax) * dx + (y - ay) * dy, (y - ay) * dx - (x - ax) * dy
            cells.append([ahead, right, _described(cell)])
    carried = _described(level.carrying) if level.carrying else ""
    return [level.mission, _strictness(level.instrs), carried, sorted(cells)]


def _described(cell: Any) -> str:
    """The kind of a cell and all of its states."""
    if cell.type == "wall":
        return "#"
    words = [cell.color, cell.type]
    if cell.type == "door":
        words.append("open" if cell.is_open else "locked" if cell.is_locked else "closed")
    if cell.type == "box" and cell.contains is not None:
        words += ["with", _described(cell.contains)]
    return " ".join(words)


def _strictness(instruction: Any) -> list[bool]:
    """Which parts of the mission are lost by doing something else first."""
    parts = [getattr(instruction, name) for name in ("instr_a", "instr_b") if hasattr(instruction, name)]
    return [bool(getattr(instruction, "strict", False)), *(strict for part in parts for strict in _strictness(part))]
