"""Rooms drawn by chance: places, a task that fits them, the things of the task, and others that are in the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random

from environments.alfworld import words
from environments.alfworld.scene import Layout, Task, kind_of
from environments.alfworld.tables import (
    APPLIANCES,
    HOMES,
    LAMP,
    LAMP_STANDS,
    LIT_ROOMS,
    MOST_IN_A_PLACE,
    NARROW,
    ROOMS,
    SMALL_ROOMS,
    SMALL_THINGS,
    THINGS,
    TREATMENT,
    Room,
    TaskType,
)


@dataclass(frozen=True)
class Setting:
    """What rooms are drawn from. Ranges are the fewest and the most."""

    rooms: Mapping[str, Room]
    kinds: Mapping[str, tuple[str, ...]]
    tasks: tuple[TaskType, ...]
    places: tuple[int, int]
    things: tuple[int, int]
    most_of_a_kind: int
    wordings: int
    """How many ways to say a goal are used."""


FULL = Setting(
    ROOMS,
    THINGS,
    tasks=tuple(words.GOALS),
    places=(8, 20),
    things=(10, 18),
    most_of_a_kind=3,
    wordings=3,
)
SMALL = Setting(
    SMALL_ROOMS,
    SMALL_THINGS,
    tasks=("pick_and_place_simple", "pick_heat_then_place"),
    places=(4, 5),
    things=(3, 5),
    most_of_a_kind=1,
    wordings=1,
)


def draw(setting: Setting, chance: Random) -> Layout:
    """A layout of the setting, whose goal does not hold at the start and can be reached."""
    while True:
        kind = chance.choice(setting.tasks)
        room = chance.choice([room for room in setting.rooms if _suits(room, setting.rooms[room], kind)])
        places = _places(setting, room, chance)
        task = _task(setting, room, places, kind, chance)
        things = task and _things(setting, room, places, task, chance)
        if task and things:
            goal = words.goal(task, chance.randrange(setting.wordings))
            return Layout(room, task, goal, tuple(places), tuple(things))


def _suits(name: str, room: Room, kind: TaskType) -> bool:
    """Whether the room has what the type of task needs."""
    if kind in TREATMENT:
        return APPLIANCES[TREATMENT[kind]][0] in room
    return kind != "look_at_obj_in_light" or name in LIT_ROOMS


def _places(setting: Setting, room: str, chance: Random) -> list[str]:
    """Names of places, by kind and number."""
    fewest, most = setting.places
    while True:
        counts = {kind: chance.randint(*bounds) for kind, bounds in setting.rooms[room].items()}
        if fewest <= sum(counts.values()) <= most:
            return [f"{kind} {number}" for kind, count in counts.items() for number in range(1, count + 1)]


def _task(setting: Setting, room: str, places: list[str], kind: TaskType, chance: Random) -> Task | None:
    """A task that these places allow; None where there is none."""
    there = {kind_of(place) for place in places}
    if kind == "look_at_obj_in_light":
        return Task(kind, chance.choice(setting.kinds[room]), LAMP) if there & LAMP_STANDS else None
    appliance, _, able = APPLIANCES[TREATMENT[kind]] if kind in TREATMENT else ("", "", frozenset(HOMES))
    things = [thing for thing in setting.kinds[room] if thing in able and len(HOMES[thing] & there) > 1]
    pairs = [(thing, place) for thing in things for place in sorted(HOMES[thing] & there - {appliance})]
    return Task(kind, *chance.choice(pairs)) if pairs else None


def _things(setting: Setting, room: str, places: list[str], task: Task, chance: Random) -> list[tuple[str, str]] | None:
    """Names of things and where each lies, in the order of the places; None where the task's own find no room."""
    needed = 2 if task.type == "pick_two_obj_and_place" else 1
    free = {place: 1 if kind_of(place) in NARROW else MOST_IN_A_PLACE for place in places}
    lying: list[tuple[str, str]] = []
    if task.place == LAMP:
        lying.append((LAMP, chance.choice([place for place in places if kind_of(place) in LAMP_STANDS])))
    for kind in _kinds(setting, room, task, needed, chance):
        homes = [place for place in places if free[place] and kind_of(place) in HOMES[kind]]
        if kind == task.thing:
            homes = [place for place in homes if kind_of(place) != task.place]
        if homes:
            place = chance.choice(homes)
            free[place] -= 1
            lying.append((kind, place))
    if sum(kind == task.thing for kind, _ in lying) < needed:
        return None
    chance.shuffle(lying)
    return list(_numbered(sorted(lying, key=lambda pair: places.index(pair[1]))))


def _kinds(setting: Setting, room: str, task: Task, needed: int, chance: Random) -> Iterator[str]:
    """Kinds of the things to lay out: first those that the task needs."""
    wanted = chance.randint(*setting.things)
    kinds = Counter({task.thing: needed})
    yield from [task.thing] * needed
    while kinds.total() < wanted:
        kind = chance.choice(setting.kinds[room])
        if kinds[kind] < setting.most_of_a_kind:
            kinds[kind] += 1
            yield kind


def _numbered(lying: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Names for kinds: numbers count the things of a kind from place to place."""
    seen: Counter[str] = Counter()
    for kind, place in lying:
        seen[kind] += 1
        yield f"{kind} {seen[kind]}", place
