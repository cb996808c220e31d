"""The goal's check, and a planner that knows where everything is: the shortest plan of the plain kind.

A plan of the plain kind puts down what the hands hold if it is in the way, fetches a thing, treats it, and takes it
where it belongs. All choices of things and places are tried, and the fewest commands win.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations, product
from typing import NamedTuple

from environments.alfworld.actions import Command
from environments.alfworld.scene import Scene, Task, is_lamp, kind_of
from environments.alfworld.tables import APPLIANCES, HOMES, TREATMENT


def holds(scene: Scene, task: Task) -> bool:
    """Whether the goal is reached."""
    if task.type == "look_at_obj_in_light":
        held = scene.held is not None and kind_of(scene.held) == task.thing
        return held and not scene.lit.isdisjoint(scene.here())
    return any(len(_done(scene, task, place)) >= _needed(task) for place in _of_kind(scene, task.place))


def plan(scene: Scene, task: Task) -> list[Command]:
    """The shortest plan of the plain kind; empty when the goal is reached.

    Raises:
        ValueError: there is no such plan, as the room lacks what the task needs.
    """
    if holds(scene, task):
        return []
    return min((_route(scene, choice) for choice in _choices(scene, task)), key=len)


class _Choice(NamedTuple):
    """What a plan is made of, in this order; None is a part that is not needed."""

    drop: str | None
    """Where to leave what is carried."""
    things: Sequence[str]
    treat: tuple[str, str] | None
    """What to do to the first thing, and where."""
    target: str | None
    """Where to put the things, or None to keep the one."""
    lamp: str | None


def _choices(scene: Scene, task: Task) -> Iterator[_Choice]:
    if task.type == "look_at_obj_in_light":
        lamps = [thing for thing in scene.where if is_lamp(thing)]
        for thing, lamp in product(_of_thing(scene, task.thing), lamps):
            for drop in _drops(scene, thing):
                yield _Choice(drop, [thing], None, None, lamp)
        return
    for target in _of_kind(scene, task.place):
        done = _done(scene, task, target)
        left = [thing for thing in _of_thing(scene, task.thing) if thing not in done]
        for things in permutations(left, _needed(task) - len(done)):
            for drop, treat in product(_drops(scene, things[0]), _treatments(scene, task, things[0])):
                yield _Choice(drop, things, treat, target, None)


def _route(scene: Scene, choice: _Choice) -> list[Command]:
    """The commands of a choice."""
    way = _Way(scene)
    if choice.drop and scene.held:
        way.put(scene.held, choice.drop)
    for thing in choice.things:
        way.fetch(thing)
        if choice.treat:
            verb, place = choice.treat
            way.go(place)
            way.commands.append(Command(verb, thing, place))
        if choice.target:
            way.put(thing, choice.target)
    if choice.lamp:
        way.go(scene.where[choice.lamp])
        if choice.lamp not in scene.lit:
            way.commands.append(Command("use", choice.lamp))
    return way.commands


class _Way:
    """Commands one after another, and what they change that the next ones depend on."""

    def __init__(self, scene: Scene) -> None:
        self.commands: list[Command] = []
        self._at = scene.at
        self._held = scene.held
        self._closed = set(scene.closed)
        self._where = scene.where.copy()

    def go(self, place: str) -> None:
        if self._at != place:
            self.commands.append(Command("go to", place))
            self._at = place

    def fetch(self, thing: str) -> None:
        """Have the thing in the hands, which are empty or hold it."""
        if self._held != thing:
            self._reach(self._where[thing])
            self.commands.append(Command("take", thing, self._where[thing]))
            self._held = thing

    def put(self, thing: str, place: str) -> None:
        self._reach(place)
        self.commands.append(Command("move", thing, place))
        self._held, self._where[thing] = None, place

    def _reach(self, place: str) -> None:
        """Stand at the place with its door open."""
        self.go(place)
        if place in self._closed:
            self.commands.append(Command("open", place))
            self._closed.remove(place)


def _needed(task: Task) -> int:
    """How many things have to lie together."""
    return 2 if task.type == "pick_two_obj_and_place" else 1


def _of_kind(scene: Scene, kind: str) -> list[str]:
    return [place for place in scene.places if kind_of(place) == kind]


def _of_thing(scene: Scene, kind: str) -> list[str]:
    """Things of a kind, the carried one first."""
    known = ([scene.held] if scene.held else []) + list(scene.where)
    return [thing for thing in known if kind_of(thing) == kind]


def _done(scene: Scene, task: Task, place: str) -> list[str]:
    """Things in the place that are as the task wants them."""
    return [thing for thing in scene.on(place) if kind_of(thing) == task.thing and _treated(scene, task, thing)]


def _treated(scene: Scene, task: Task, thing: str) -> bool:
    verb = TREATMENT.get(task.type)
    return verb is None or APPLIANCES[verb][1] in scene.states.get(thing, ())


def _drops(scene: Scene, thing: str) -> list[str | None]:
    """Places where what is carried may be left to fetch ``thing``; None where the hands are not in the way."""
    if scene.held is None or scene.held == thing:
        return [None]
    return [place for place in scene.places if kind_of(place) in HOMES[kind_of(scene.held)]]


def _treatments(scene: Scene, task: Task, thing: str) -> list[tuple[str, str] | None]:
    """What the thing still needs, at each place where that can be done."""
    if _treated(scene, task, thing):
        return [None]
    verb = TREATMENT[task.type]
    return [(verb, place) for place in _of_kind(scene, APPLIANCES[verb][0])]
