"""Ways through a whole BabyAI grid, and the fewest turns to walk them: what the expert knows and agents do not."""

from __future__ import annotations

from collections.abc import Callable, Collection
from heapq import heappop, heappush
from typing import Any, NamedTuple

from environments.babyai.moves import FORWARD, LEFT, RIGHT, before, first, spread, walkable
from environments.babyai.quiet import Quiet
from environments.babyai.sight import DIRECTIONS, Cell, Pose, front, look, thing_at

SPOKEN = {LEFT: "turn left", RIGHT: "turn right", FORWARD: "move forward"}

DOOR_COST, LOCK_COST, BLOCKER_COST = 3, 40, 20
"""In steps: of opening a door, of fetching its key, and of clearing a thing out of the way."""


class Way(NamedTuple):
    """The next action on a way, and how many turns the way takes from here."""

    action: str
    turns: int


def opens(level: Quiet, door: Any) -> bool:
    """Whether the agent can open the door with what it carries."""
    held = level.carrying
    return not door.is_locked or (held is not None and held.type == "key" and bool(held.color == door.color))


def route(level: Quiet, targets: Collection[Cell], start: Cell | None = None) -> list[Cell]:
    """The cells from the agent, or ``start``, to the cheapest target: that last, the first left out; may be empty.

    Dijkstra over cells, with doors and things in the way. A target may hold anything but a wall.
    """
    x, y = start or level.pose[:2]
    came: dict[Cell, Cell] = {}
    queue: list[tuple[int, Cell, Cell]] = [(0, (x, y), (x, y))]
    while queue:
        cost, cell, origin = heappop(queue)
        if cell in came:
            continue
        came[cell] = origin
        if cell in targets and cell != (x, y):
            return _traced(came, cell)
        for dx, dy in DIRECTIONS:
            ahead = (cell[0] + dx, cell[1] + dy)
            step = _cost(level, ahead, targets)
            if step and ahead not in came:
                heappush(queue, (cost + step, ahead, cell))
    return []


def _cost(level: Quiet, cell: Cell, targets: Collection[Cell]) -> int:
    """Steps that entering the cell costs; 0 where nobody can."""
    thing = thing_at(level, cell)
    if thing is None:
        return 1
    if thing.type == "wall":
        return 0
    if thing.type == "door":
        return 1 if thing.is_open else DOOR_COST if opens(level, thing) else LOCK_COST
    return 1 if cell in targets else BLOCKER_COST


def _traced(came: dict[Cell, Cell], cell: Cell) -> list[Cell]:
    cells = []
    while came[cell] != cell:
        cells.append(cell)
        cell = came[cell]
    return cells[::-1]


def walk(level: Quiet, verb: str, target: Cell) -> Way | None:
    """Turn and step until ``target`` is in view with a way to it, then ``verb`` it; None where that never is."""
    if thing_at(level, target) is None:
        return None
    reached = first(spread(level, level.pose), lambda pose: before(level, pose, target) is not None)
    if reached is None:
        return None
    if reached.path:
        return Way(SPOKEN[reached.path[0]], len(reached.path) + 1)
    return Way(f"{verb} {next(seen.label for seen in look(level) if seen.cell == target)}", 1)


def stand(level: Quiet, accept: Callable[[Pose], bool], then: str) -> Way | None:
    """Turn and step to the first pose that ``accept`` takes, and do ``then``."""
    reached = first(spread(level, level.pose), accept)
    if reached is None:
        return None
    return Way(SPOKEN[reached.path[0]] if reached.path else then, len(reached.path) + 1)


def place(level: Quiet, spots: Collection[Cell], beside: Cell) -> Way | None:
    """Drop what is carried on one of the free ``spots``: on foot, or by way of the thing ``beside`` them."""

    def faces(pose: Pose) -> bool:
        return front(pose) in spots

    afoot = stand(level, faces, "drop")
    there = walk(level, "go to", beside)
    landed = before(level, level.pose, beside) if there and there.turns == 1 else None
    if there and landed and afoot:
        rest = first(spread(level, landed.pose), faces)
        if rest is not None and len(rest.path) + 2 < afoot.turns:
            return Way(there.action, len(rest.path) + 2)
    return afoot


def empty(level: Quiet, cell: Cell) -> bool:
    """Whether a thing can be dropped in the cell at all."""
    return thing_at(level, cell) is None


def clear_of_the_way(level: Quiet, cell: Cell) -> bool:
    """Whether a thing dropped in the cell cuts nothing off: it is no doorway, and its free neighbours hang together."""
    if thing_at(level, cell) is not None:
        return False
    x, y = cell
    ring = ((-1, -1), (0, -1), (1, -1), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0))
    around = [(x + dx, y + dy) for dx, dy in ring]
    if any((thing := thing_at(level, one)) is not None and thing.type == "door" for one in around[1::2]):
        return False
    free = [walkable(level, one) for one in around]
    return sum(free[i] != free[i - 1] for i in range(8)) <= 2


def aside(level: Quiet, cell: Cell) -> bool:
    """Whether a thing dropped in the cell is ``clear_of_the_way`` and stands beside no other."""
    near = (thing_at(level, (cell[0] + dx, cell[1] + dy)) for dx, dy in DIRECTIONS)
    return clear_of_the_way(level, cell) and all(thing is None or thing.type == "wall" for thing in near)
