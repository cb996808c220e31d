"""What an action does on a BabyAI level: it is tried, and answered with a note where it comes to nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from environments.babyai.moves import (
    DONE,
    DROP,
    FORWARD,
    LEFT,
    PICKUP,
    RIGHT,
    TOGGLE,
    Mission,
    before,
    behind,
    perform,
    walkable,
)
from environments.babyai.quiet import Quiet
from environments.babyai.sight import Sighting, carried, door_state, front, look, thing_at

CHECK = "check available actions"
TURNS = {"turn left": LEFT, "turn right": RIGHT, "move forward": FORWARD}
HANDS = {"drop": DROP, "toggle": TOGGLE}
WALK = re.compile(r"(go to|pick ?up|go through|toggle and go through) ([a-z]+ [a-z]+)(?: ([0-9]{1,3}))?")
"""A walk, the thing that it leads to, and its number; without one it is the nearest."""


class Deed(NamedTuple):
    """How the mission stands after an action, and what the agent is told about it."""

    mission: Mission
    note: str = ""


def act(level: Quiet, action: str) -> Deed:
    """Do what an action says, in lower case and with single spaces."""
    if action == CHECK:
        return Deed(Mission.OPEN, f"You can: {'; '.join(choices(level))}.")
    if action in TURNS:
        return _turn(level, TURNS[action])
    if action in HANDS:
        return _hand(level, action)
    found = WALK.fullmatch(action)
    if found is None:
        return Deed(Mission.OPEN, f"That is no action. Reply with one action, such as: {CHECK}")
    verb, name, number = found.groups()
    seen = next((s for s in look(level) if s.label == f"{name} {int(number or 1)}"), None)
    if seen is None:
        return Deed(Mission.OPEN, f"You see no {name} {int(number or 1)}.")
    return WALKS[verb.replace(" ", "")](level, seen)


def choices(level: Quiet) -> list[str]:
    """Every action that can be tried here; whether a way is free shows when it is."""
    hands = ["drop"] if level.carrying else []
    ahead = thing_at(level, front(level.pose))
    if ahead is not None and ahead.type in {"door", "box"}:
        hands.append("toggle")
    walks = [f"{verb} {seen.label}" for seen in look(level) for verb in _verbs(level, seen)]
    return [*TURNS, *hands, *walks, CHECK]


def _verbs(level: Quiet, seen: Sighting) -> list[str]:
    """The walks that end in something with this thing."""
    if seen.thing.type == "door":
        return ["go to", "go through" if seen.thing.is_open else "toggle and go through"]
    return ["go to"] if level.carrying else ["go to", "pick up"]


def _turn(level: Quiet, primitive: int) -> Deed:
    blocked = primitive == FORWARD and not walkable(level, front(level.pose))
    return Deed(perform(level, (primitive,)), "Something is in the way." if blocked else "")


def _hand(level: Quiet, action: str) -> Deed:
    ahead = thing_at(level, front(level.pose))
    note = ""
    if action == "drop" and (not level.carrying or ahead is not None):
        note = "There is no room in front of you." if level.carrying else "You carry nothing."
    if action == "toggle":
        if ahead is None or ahead.type not in {"door", "box"}:
            note = "There is nothing to toggle in front of you."
        elif ahead.type == "door":
            note = _locked(level, ahead)
    return Deed(perform(level, (HANDS[action],)), note)


def _locked(level: Quiet, door: Any) -> str:
    """What stands against opening the door; empty where nothing does."""
    if door_state(door) != "locked" or carried(level) == f"{door.color} key":
        return ""
    return f"The door is locked. Carry a {door.color} key to open it."


def _go_to(level: Quiet, seen: Sighting) -> Deed:
    reached = before(level, level.pose, seen.cell)
    if reached is None:
        return Deed(Mission.OPEN, f"You see no free way to {seen.label}.")
    return Deed(perform(level, reached.path or (DONE,)))


def _pick_up(level: Quiet, seen: Sighting) -> Deed:
    reached = before(level, level.pose, seen.cell)
    if seen.thing.type == "door":
        return Deed(Mission.OPEN, "A door cannot be picked up.")
    if level.carrying:
        return Deed(Mission.OPEN, f"You carry the {carried(level)}. Drop it first.")
    if reached is None:
        return Deed(Mission.OPEN, f"You see no free way to {seen.label}.")
    return Deed(perform(level, (*reached.path, PICKUP)))


def _go_through(level: Quiet, seen: Sighting) -> Deed:
    if seen.thing.type != "door" or not seen.thing.is_open:
        return Deed(Mission.OPEN, f"{seen.label} is no open door.".capitalize())
    return _pass(level, seen, ())


def _toggle_and_go_through(level: Quiet, seen: Sighting) -> Deed:
    if seen.thing.type != "door" or seen.thing.is_open:
        return Deed(Mission.OPEN, f"{seen.label} is no closed door.".capitalize())
    locked = _locked(level, seen.thing)
    return Deed(Mission.OPEN, locked) if locked else _pass(level, seen, (TOGGLE,))


def _pass(level: Quiet, seen: Sighting, opening: Sequence[int]) -> Deed:
    """Walk up to the door, open it, and step behind it; in the doorway where that cell is taken."""
    reached = before(level, level.pose, seen.cell)
    if reached is None:
        return Deed(Mission.OPEN, f"You see no free way to {seen.label}.")
    return Deed(perform(level, (*reached.path, *opening, *behind(level, reached.pose).path)))


WALKS: dict[str, Callable[[Quiet, Sighting], Deed]] = {
    "goto": _go_to,
    "pickup": _pick_up,
    "gothrough": _go_through,
    "toggleandgothrough": _toggle_and_go_through,
}
