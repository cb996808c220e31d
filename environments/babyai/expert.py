"""The expert: it knows the whole grid, and says the next action from how things stand, whatever was done before.

It works as minigrid's BabyAIBot does, one part of the mission after the other (fetch the key first, clear the way, lay
down what is in the hand), but in walks instead of single steps, and needs no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from minigrid.envs.babyai.core.verifier import (  # noqa: TID253
    AfterInstr,
    GoToInstr,
    OpenInstr,
    PickupInstr,
    SeqInstr,
)

from environments.babyai.moves import walkable
from environments.babyai.quiet import Quiet
from environments.babyai.routes import Way, aside, clear_of_the_way, empty, opens, place, route, stand, walk
from environments.babyai.sight import DIRECTIONS, Cell, Pose, front, thing_at

LOST = "turn left"
"""What is said where nothing helps any more: no key is left, or no room to put a thing."""

Cells = Collection[Cell]


def advise(level: Quiet) -> str:
    """The next action towards the mission."""
    return _pursue(level, _pending(level.instrs)) or LOST


def _pending(instruction: Any) -> Any:
    """The part of the mission that is next."""
    if not isinstance(instruction, SeqInstr):
        return instruction
    first, second = ("b", "a") if isinstance(instruction, AfterInstr) else ("a", "b")
    done = getattr(instruction, f"{first}_done")
    return _pending(getattr(instruction, f"instr_{second if done == 'success' else first}"))


def _pursue(level: Quiet, part: Any) -> str | None:
    """The next action towards one part of the mission; None where nothing leads there."""
    if isinstance(part, GoToInstr):
        return _go(level, _positions(part.desc))
    if isinstance(part, OpenInstr):
        return _open(level, _cells(level, part.desc.obj_set))
    if isinstance(part, PickupInstr):
        return _fetch(level, _cells(level, part.desc.obj_set))
    return _put_next(level, part.desc_move.obj_set, _positions(part.desc_fixed))


def _put_next(level: Quiet, things: Collection[Any], fixed: Cells) -> str | None:
    """Towards putting one of the things beside a fixed one. Between both the way is cleared before hands are full."""
    if any(thing is level.carrying for thing in things):
        return _put(level, fixed)
    sources = _cells(level, things)
    nearest = route(level, sources)
    for cell in route(level, fixed, nearest[-1])[:-1] if nearest else ():
        thing = thing_at(level, cell)
        if thing is not None and thing.type == "door" and thing.is_locked:
            return _open(level, {cell})
        if thing is not None and thing.type != "door":
            return _fetch(level, {cell})
    return _fetch(level, sources)


def _positions(desc: Any) -> set[Cell]:
    """Where the verifier takes the things described to be."""
    return {(int(x), int(y)) for x, y in desc.obj_poss}


def _cells(level: Quiet, things: Collection[Any]) -> set[Cell]:
    """Where the things lie."""
    width, wanted = level.grid.width, {id(thing) for thing in things}
    return {
        (i % width, i // width) for i, cell in enumerate(level.grid.grid) if cell is not None and id(cell) in wanted
    }


def _go(level: Quiet, targets: Cells, keys: tuple[str, ...] = ()) -> str | None:
    """Towards facing one of the targets; ``keys`` are the colours of those that are on the way to be fetched."""
    cells = route(level, targets)
    if not cells:
        return _step_off(level, targets)
    obstacle = _clear(level, cells[:-1], keys)
    if obstacle or thing_at(level, cells[-1]) is not None:
        return obstacle or _said(walk(level, "go to", cells[-1]))
    # The verifier goes by where things were: one that was picked up since is still reached there.
    return _said(stand(level, lambda pose: front(pose) == cells[-1], "toggle"))


def _open(level: Quiet, doors: Cells) -> str | None:
    """Towards opening one of the doors; an open one is closed first."""
    cells = [ahead] if (ahead := front(level.pose)) in doors else route(level, doors)
    if not cells:
        return _step_off(level, doors)
    door = thing_at(level, cells[-1])
    if obstacle := _clear(level, cells[:-1] if opens(level, door) else cells, ()):
        return obstacle
    if cells[-1] == ahead:
        return "toggle"
    return _said(walk(level, "go to" if door.is_open else "toggle and go through", cells[-1]))


def _fetch(level: Quiet, targets: Cells, keys: tuple[str, ...] = ()) -> str | None:
    """Towards carrying one of the targets, and nothing else before."""
    cells = route(level, targets)
    if level.carrying and not _locked(level, cells[:-1]):
        return _lay_down(level, cells)
    return _clear(level, cells[:-1], keys) or (_said(walk(level, "pick up", cells[-1])) if cells else None)


def _locked(level: Quiet, cells: list[Cell]) -> bool:
    """Whether a locked door is on the way."""
    things = (thing_at(level, cell) for cell in cells)
    return any(thing is not None and thing.type == "door" and thing.is_locked for thing in things)


def _fetch_key(level: Quiet, color: str, keys: tuple[str, ...]) -> str | None:
    """Towards carrying a key of this colour, out of a box if need be."""
    if color in keys:
        return None
    things = [thing for thing in level.grid.grid if thing is not None]
    loose = _cells(level, [thing for thing in things if _is_key(thing, color)])
    if loose:
        return _fetch(level, loose, (*keys, color))
    boxes = _cells(level, [thing for thing in things if thing.type == "box" and _is_key(thing.contains, color)])
    if not boxes and level.carrying:
        return _lay_down(level, ())
    return "toggle" if front(level.pose) in boxes else _go(level, boxes, (*keys, color))


def _is_key(thing: Any, color: str) -> bool:
    return thing is not None and thing.type == "key" and bool(thing.color == color)


def _put(level: Quiet, fixed: Cells) -> str | None:
    """Towards dropping what is carried beside one of the ``fixed`` things."""
    cells = route(level, fixed)
    if not cells:
        return _step_off(level, fixed)
    beside = {(x + dx, y + dy) for x, y in fixed for dx, dy in DIRECTIONS} - {level.pose[:2]}
    spots = {cell for cell in beside if thing_at(level, cell) is None}
    return _clear(level, cells[:-1], ()) or _said(place(level, spots, cells[-1])) or _lay_down(level, cells)


def _clear(level: Quiet, cells: list[Cell], keys: tuple[str, ...]) -> str | None:
    """The action that the first obstacle on the way asks for; None where there is none.

    The key of a locked door is fetched before the doors ahead of it are passed, as it may lie on this side of them.
    """
    stop: tuple[str, Cell] | None = None
    for index, cell in enumerate(cells):
        thing = thing_at(level, cell)
        if thing is None:
            continue
        if thing.type != "door":
            if level.carrying and not _locked(level, cells[:index]):
                return _lay_down(level, cells)
            if thing.type == "box" and thing.contains is not None and front(level.pose) == cell:
                return "toggle"
            stop = stop or ("go to" if thing.type == "box" and thing.contains is not None else "pick up", cell)
            break
        if not thing.is_open and not opens(level, thing):
            return _fetch_key(level, thing.color, keys)
        stop = stop or ("go through" if thing.is_open else "toggle and go through", cell)
    return _said(walk(level, *stop)) if stop else None


def _lay_down(level: Quiet, way: Cells) -> str | None:
    """Towards dropping what is carried off the way; a place where it hinders has to be some turns nearer."""
    best: tuple[int, str] | None = None
    for toll, fits in ((0, aside), (2, clear_of_the_way), (6, empty)):
        found = stand(level, partial(_faces, level, fits, way), "drop")
        if found is not None and (best is None or found.turns + toll < best[0]):
            best = found.turns + toll, found.action
    return best[1] if best else None


def _faces(level: Quiet, fits: Callable[[Quiet, Cell], bool], way: Cells, pose: Pose) -> bool:
    cell = front(pose)
    return cell not in way and fits(level, cell)


def _step_off(level: Quiet, targets: Cells) -> str | None:
    """Away from the target that the agent stands on, which is an open door."""
    if level.pose[:2] not in targets:
        return None
    return "move forward" if walkable(level, front(level.pose)) else "turn left"


def _said(way: Way | None) -> str | None:
    return way.action if way else None
