"""A BabyAI level in words: what the agent sees, and how it walks to an object it names."""

# Minigrid's methods are only partly annotated.
# mypy: allow-untyped-calls

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from environments.babyai.goto_level import Level

LEFT, RIGHT, FORWARD, DONE = 0, 1, 2, 6
"""Minigrid's primitive actions."""

DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (0, -1))


class Sighting(NamedTuple):
    """An object in view: cells ahead, cells to the right (negative is left), and its name."""

    ahead: int
    right: int
    name: str

    def phrase(self) -> str:
        """``red ball 3 ahead 1 left``."""
        words = [self.name]
        if self.ahead:
            words.append(f"{self.ahead} ahead")
        if self.right:
            words.append(f"{abs(self.right)} {'left' if self.right < 0 else 'right'}")
        return " ".join(words)


def look(level: Level) -> tuple[list[Sighting], int | None]:
    """Objects in view, nearest first, and the distance to the wall straight ahead if it is in view."""
    grid, visible = level.gen_obs_grid()
    size = level.agent_view_size
    column, row = size // 2, size - 1
    seen: list[Sighting] = []
    for i in range(size):
        for j in range(size):
            cell = grid.get(i, j)
            if cell is not None and visible[i, j] and cell.type != "wall" and (i, j) != (column, row):
                seen.append(Sighting(row - j, i - column, f"{cell.color} {cell.type}"))
    seen.sort(key=lambda sighting: (sighting.ahead + abs(sighting.right), sighting))
    ahead = ((d, grid.get(column, row - d)) for d in range(1, size))
    wall = next((d for d, cell in ahead if cell is not None and cell.type == "wall"), None)
    return seen, wall


def observe(level: Level, note: str = "") -> str:
    """The user message: the goal and what is in view, after ``note`` about the last action."""
    seen, wall = look(level)
    phrases = [sighting.phrase() for sighting in seen]
    if wall:
        phrases.append(f"wall {wall} ahead")
    return f"{note}Goal: {level.mission}\nYou see: {'; '.join(phrases) or 'nothing'}"


def perform(level: Level, actions: tuple[int, ...]) -> bool:
    """Take primitive actions until one completes the mission; whether one did."""
    for action in actions:
        _, reward, terminated, _, _ = level.step(action)
        if terminated:
            return float(reward) > 0
    return False


def path_to(level: Level, name: str) -> tuple[int, ...] | None:
    """Fewest primitive actions to stand before, and face, the nearest object in view called ``name``.

    Breadth-first over poses. ``(DONE,)`` when the agent faces one already; None when none is in view or
    there is no way to it.
    """
    targets = {(x, y) for x, y, other in level.objects() if other == name and level.in_view(x, y)}
    if not targets:
        return None
    start = level.pose
    queue: deque[tuple[tuple[int, int, int], tuple[int, ...]]] = deque([(start, ())])
    known = {start}
    while queue:
        (x, y, direction), path = queue.popleft()
        front = (x + DIRECTIONS[direction][0], y + DIRECTIONS[direction][1])
        if front in targets:
            return path or (DONE,)
        moves = [((x, y, (direction - 1) % 4), LEFT), ((x, y, (direction + 1) % 4), RIGHT)]
        cell = level.grid.get(*front)
        if cell is None or cell.can_overlap():
            moves.append(((*front, direction), FORWARD))
        for pose, action in moves:
            if pose not in known:
                known.add(pose)
                queue.append((pose, (*path, action)))
    return None
