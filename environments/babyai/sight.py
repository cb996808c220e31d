"""What the agent sees of a BabyAI level, and how it is told: things by name and number, nearest first."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from environments.babyai.quiet import Quiet

Pose = tuple[int, int, int]
"""Column, row and direction; 0 is east, and directions turn clockwise."""
Cell = tuple[int, int]

DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (0, -1))


class Sighting(NamedTuple):
    """A thing in view: cells ahead, cells to the right (negative is left), its name, its number among its namesakes."""

    ahead: int
    right: int
    name: str
    number: int
    cell: Cell
    thing: Any

    @property
    def label(self) -> str:
        """What actions call it: ``red ball 1``."""
        return f"{self.name} {self.number}"

    def phrase(self) -> str:
        """``red door 1 (closed): 3 ahead, 1 left``."""
        where = [f"{self.ahead} ahead"] if self.ahead else []
        if self.right:
            where.append(f"{abs(self.right)} {'left' if self.right < 0 else 'right'}")
        state = f" ({door_state(self.thing)})" if self.thing.type == "door" else ""
        return f"{self.label}{state}: {', '.join(where)}"


def door_state(door: Any) -> str:
    """``open``, ``closed`` or ``locked``."""
    return "open" if door.is_open else "locked" if door.is_locked else "closed"


def front(pose: Pose) -> Cell:
    """The cell that an agent with this pose faces."""
    x, y, direction = pose
    return x + DIRECTIONS[direction][0], y + DIRECTIONS[direction][1]


def thing_at(level: Quiet, cell: Cell) -> Any:
    """What is in the cell; None where it is empty."""
    return level.grid.grid[cell[1] * level.grid.width + cell[0]]


def in_frame(level: Quiet, pose: Pose, cell: Cell) -> bool:
    """Whether the cell is in the square that ``pose`` looks over, in the light or not."""
    x, y, direction = pose
    (fx, fy), (rx, ry) = DIRECTIONS[direction], DIRECTIONS[(direction + 1) % 4]
    dx, dy = cell[0] - x, cell[1] - y
    size = int(level.agent_view_size)
    return 0 <= dx * fx + dy * fy < size and abs(dx * rx + dy * ry) <= size // 2


def visible(level: Quiet, pose: Pose) -> dict[Cell, tuple[int, int]]:
    """Cells in view from ``pose``, each as cells ahead and to the right.

    Minigrid's rule, read off the grid itself: a lit cell that is not opaque lights its neighbours at both sides, ahead,
    and ahead of those.
    """
    grid, width, height = level.grid.grid, level.grid.width, level.grid.height
    x, y, direction = pose
    (fx, fy), (rx, ry) = DIRECTIONS[direction], DIRECTIONS[(direction + 1) % 4]
    size = level.agent_view_size
    half = size // 2
    seen: dict[Cell, tuple[int, int]] = {}
    lit = [i == half for i in range(size)]
    for ahead in range(size):
        row = [(x + fx * ahead + rx * right, y + fy * ahead + ry * right) for right in range(-half, size - half)]
        inside = [0 <= cx < width and 0 <= cy < height for cx, cy in row]
        clear = [
            known and ((thing := grid[cy * width + cx]) is None or thing.see_behind())
            for (cx, cy), known in zip(row, inside, strict=True)
        ]
        beyond = [False] * size
        for order, side in ((range(size - 1), 1), (range(size - 1, 0, -1), -1)):
            for i in order:
                if lit[i] and clear[i]:
                    lit[i + side] = beyond[i] = beyond[i + side] = True
        seen |= {row[i]: (ahead, i - half) for i in range(size) if lit[i] and inside[i]}
        lit = beyond
    return seen


def look(level: Quiet) -> list[Sighting]:
    """Things in view that are no walls, nearest first."""
    found = sorted(
        (ahead + abs(right), ahead, right, f"{thing.color} {thing.type}", cell)
        for cell, (ahead, right) in visible(level, level.pose).items()
        if (ahead or right) and (thing := thing_at(level, cell)) is not None and thing.type != "wall"
    )
    numbers: Counter[str] = Counter()
    sightings = []
    for _, ahead, right, name, cell in found:
        numbers[name] += 1
        sightings.append(Sighting(ahead, right, name, numbers[name], cell, thing_at(level, cell)))
    return sightings


def carried(level: Quiet) -> str:
    """The name of what the agent carries, or ``nothing``."""
    return f"{level.carrying.color} {level.carrying.type}" if level.carrying else "nothing"


def observe(level: Quiet) -> str:
    """The user message: the goal, what is in view, and what is carried."""
    phrases = [sighting.phrase() for sighting in look(level)]
    wall = _wall_ahead(level)
    if wall is not None:
        phrases.append(f"wall: {wall} ahead")
    return f"Goal: {level.mission}\nYou see: {'; '.join(phrases) or 'nothing'}\nYou carry: {carried(level)}"


def _wall_ahead(level: Quiet) -> int | None:
    """Cells to the wall straight ahead; None where it is not in view."""
    straight = ((ahead, cell) for cell, (ahead, right) in visible(level, level.pose).items() if right == 0 and ahead)
    things = ((ahead, thing_at(level, cell)) for ahead, cell in straight)
    return min((ahead for ahead, thing in things if thing is not None and thing.type == "wall"), default=None)
