"""Actions on a BabyAI level: minigrid's primitive ones, and walks that are made of them."""

# Minigrid's methods are only partly annotated.
# mypy: allow-untyped-calls

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from enum import Enum
from typing import NamedTuple

from environments.babyai.quiet import Quiet
from environments.babyai.sight import Cell, Pose, front, in_frame, thing_at, visible

LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE, DONE = range(7)
"""Minigrid's primitive actions."""


class Mission(Enum):
    """How the mission stands, as the level's own verifier says."""

    OPEN = "open"
    DONE = "done"
    LOST = "lost"


class Reached(NamedTuple):
    """A pose and the fewest primitive actions that lead to it."""

    pose: Pose
    path: tuple[int, ...]


def walkable(level: Quiet, cell: Cell) -> bool:
    """Whether the agent can step there: an empty cell or an open door."""
    thing = thing_at(level, cell)
    return thing is None or bool(thing.can_overlap())


def spread(level: Quiet, start: Pose, within: Container[Cell] | None = None) -> Iterator[Reached]:
    """All poses that turns and steps lead to, breadth-first; on cells ``within`` only, where it is given."""
    queue: deque[Reached] = deque([Reached(start, ())])
    known = {start}
    while queue:
        here = queue.popleft()
        yield here
        (x, y, direction), path = here
        moves: list[tuple[Pose, int]] = [((x, y, (direction - 1) % 4), LEFT), ((x, y, (direction + 1) % 4), RIGHT)]
        ahead = front(here.pose)
        if (within is None or ahead in within) and walkable(level, ahead):
            moves.append(((*ahead, direction), FORWARD))
        for pose, action in moves:
            if pose not in known:
                known.add(pose)
                queue.append(Reached(pose, (*path, action)))


def first(reached: Iterator[Reached], accept: Callable[[Pose], bool]) -> Reached | None:
    """The first pose that ``accept`` takes; None where there is none."""
    return next((one for one in reached if accept(one.pose)), None)


def before(level: Quiet, pose: Pose, target: Cell) -> Reached | None:
    """The nearest pose that faces ``target``, over cells that are in view from ``pose``; None where no way is."""
    if not in_frame(level, pose, target) or target not in (seen := visible(level, pose)):
        return None
    return first(spread(level, pose, seen), lambda reached: front(reached) == target)


def behind(level: Quiet, pose: Pose) -> Reached:
    """Where two steps through the door ahead lead, once it is open: behind it, or into it where that cell is taken."""
    door, direction = front(pose), pose[2]
    beyond = front((*door, direction))
    if walkable(level, beyond):
        return Reached((*beyond, direction), (FORWARD, FORWARD))
    return Reached((*door, direction), (FORWARD,))


def perform(level: Quiet, actions: Sequence[int]) -> Mission:
    """Take primitive actions until one completes the mission or loses it."""
    for action in actions:
        _, reward, terminated, _, _ = level.step(action)
        if terminated:
            return Mission.DONE if float(reward) > 0 else Mission.LOST
    return Mission.OPEN
