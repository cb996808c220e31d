"""A room as it is at one moment of an episode: where everything is, and what state it is in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from environments.alfworld.tables import DOORS, LAMP, TaskType


class Task(NamedTuple):
    """What is asked for. ``place`` is a kind of place, or the lamp's kind where a thing is to be looked at."""

    type: TaskType
    thing: str
    place: str


class Layout(NamedTuple):
    """What a scenario holds: names of places, and of things with the place each lies in. Names are ``kind number``."""

    room: str
    task: Task
    goal: str
    places: tuple[str, ...]
    things: tuple[tuple[str, str], ...]

    def key(self) -> list[Any]:
        """What makes the scenario what it is: neither numbers nor the wording of the goal count."""
        held = {place: sorted(kind_of(thing) for thing, at in self.things if at == place) for place in self.places}
        return [self.room, *self.task, sorted([kind_of(place), things] for place, things in held.items())]


@dataclass
class Scene:
    """The state that actions change. ``at`` is the place where the agent stands, None in the middle of the room."""

    room: str
    places: tuple[str, ...]
    where: dict[str, str]
    """Thing to the place where it lies; what is carried is missing."""
    closed: set[str]
    at: str | None = None
    held: str | None = None
    lit: set[str] = field(default_factory=set)
    states: dict[str, set[str]] = field(default_factory=dict)
    """Thing to what was done to it: ``hot`` or ``cold``, ``clean``, ``sliced``."""

    def on(self, place: str) -> list[str]:
        """Things in a place, seen or not, in their order."""
        return [thing for thing, at in self.where.items() if at == place]

    def here(self) -> list[str]:
        """Things in sight: those of the place where the agent stands, unless it is closed."""
        return [] if self.at is None or self.at in self.closed else self.on(self.at)


def start(layout: Layout, closed: bool) -> Scene:
    """The room before the first action: doors are ``closed`` or not, lamps are off, the hands are empty."""
    doors = {place for place in layout.places if kind_of(place) in DOORS}
    return Scene(layout.room, layout.places, dict(layout.things), doors if closed else set())


def kind_of(name: str) -> str:
    """``mug 2`` is a ``mug``."""
    return name.rpartition(" ")[0]


def is_lamp(name: str) -> bool:
    """Whether it is a lamp, which is used where it stands and never carried."""
    return kind_of(name) == LAMP
