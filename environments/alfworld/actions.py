"""The actions: how they are written, which of them can be done in a scene, and what they change."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from environments.alfworld.scene import Scene, is_lamp, kind_of
from environments.alfworld.tables import APPLIANCES, DOORS, HOMES, KNIVES, SLICEABLE

FORMS = {
    "go to": "go to {}",
    "open": "open {}",
    "close": "close {}",
    "take": "take {} from {}",
    "move": "move {} to {}",
    "heat": "heat {} with {}",
    "cool": "cool {} with {}",
    "clean": "clean {} with {}",
    "slice": "slice {} with {}",
    "use": "use {}",
    "examine": "examine {}",
    "look": "look",
    "inventory": "inventory",
    "help": "help",
}
"""Verb to its form; the gaps are names such as ``mug 1``."""

NAME = r"([a-z]+ \d{1,3})"
PATTERNS = {verb: re.compile(form.replace("{}", NAME), re.ASCII) for verb, form in FORMS.items()}
PUT = re.compile(rf"(?:put|move) {NAME} (?:in/on|into|onto|in|on) {NAME}", re.ASCII)
"""An older way to say ``move``."""


class Command(NamedTuple):
    """A verb and the names that its form has gaps for."""

    verb: str
    what: str = ""
    other: str = ""

    def __str__(self) -> str:
        return FORMS[self.verb].format(self.what, self.other)


def parse(action: str) -> Command | None:
    """The command that the first line says; None where it is none. Case, quotes and a full stop do not matter."""
    line = next(iter(action.splitlines()), "")
    said = " ".join(line.lower().split()).strip("`'\"*.")
    if found := PUT.fullmatch(said):
        return Command("move", *found.groups())
    for verb, pattern in PATTERNS.items():
        if found := pattern.fullmatch(said):
            return Command(verb, *found.groups())
    return None


def admissible(scene: Scene) -> list[Command]:
    """Every command that can be done, and so the precondition of each."""
    return [
        *(Command("go to", place) for place in scene.places if place != scene.at),
        *([] if scene.at is None else _at_a_place(scene, scene.at)),
        *([] if scene.at is None or scene.held is None else _with_what_is_held(scene, scene.at, scene.held)),
        *([] if scene.held is None else [Command("examine", scene.held)]),
        *(Command(verb) for verb in ("inventory", "look", "help")),
    ]


def _at_a_place(scene: Scene, at: str) -> Iterator[Command]:
    """What can be done to a place and to what lies there."""
    if kind_of(at) in DOORS:
        yield Command("open" if at in scene.closed else "close", at)
    for thing in scene.here():
        if is_lamp(thing):
            yield Command("use", thing)
        elif scene.held is None:
            yield Command("take", thing, at)
    yield Command("examine", at)


def _with_what_is_held(scene: Scene, at: str, held: str) -> Iterator[Command]:
    """What can be done with the thing that is carried."""
    if kind_of(at) in HOMES[kind_of(held)] and at not in scene.closed:
        yield Command("move", held, at)
    for verb, (appliance, _, things) in APPLIANCES.items():
        if kind_of(at) == appliance and kind_of(held) in things:
            yield Command(verb, held, at)
    if kind_of(held) in KNIVES:
        for thing in scene.here():
            if kind_of(thing) in SLICEABLE and "sliced" not in scene.states.get(thing, ()):
                yield Command("slice", thing, held)


def change(scene: Scene, command: Command) -> None:
    """Do an admissible command; those that only look change nothing."""
    verb, what, other = command
    if verb == "go to":
        scene.at = what
    elif verb == "open":
        scene.closed.remove(what)
    elif verb == "close":
        scene.closed.add(what)
    elif verb == "take":
        scene.held = what
        del scene.where[what]
    elif verb == "move":
        scene.held = None
        scene.where[what] = other
    elif verb == "use":
        scene.lit ^= {what}
    elif verb == "slice":
        scene.states.setdefault(what, set()).add("sliced")
    elif verb in APPLIANCES:
        _treat(scene, verb, what)


def _treat(scene: Scene, verb: str, thing: str) -> None:
    """Leave the state of the treatment; what gets hot is cold no longer, and the other way around."""
    state = APPLIANCES[verb][1]
    states = scene.states.setdefault(thing, set())
    if state in ("hot", "cold"):
        states -= {"hot", "cold"}
    states.add(state)
