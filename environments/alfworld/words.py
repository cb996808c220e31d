"""What the agent reads: the goal, the room, and what each action led to."""

from __future__ import annotations

from collections.abc import Mapping

from environments.alfworld.actions import Command, admissible
from environments.alfworld.scene import Layout, Scene, Task, is_lamp, kind_of
from environments.alfworld.tables import HOLLOW, TaskType

NOTHING = "Nothing happens."

GOALS: Mapping[TaskType, tuple[str, ...]] = {
    "pick_and_place_simple": (
        "put {a_thing} {on} {a_place}",
        "find {a_thing} and leave it {on} {a_place}",
        "bring {a_thing} to {a_place} and put it down there",
    ),
    "look_at_obj_in_light": (
        "look at {a_thing} under {a_place}",
        "hold {a_thing} in the light of {a_place}",
        "carry {a_thing} to {a_place} and turn the light on",
    ),
    "pick_clean_then_place": (
        "put a clean {thing} {on} {a_place}",
        "wash {a_thing} and put it {on} {a_place}",
        "clean {a_thing}, then leave it {on} {a_place}",
    ),
    "pick_heat_then_place": (
        "put a hot {thing} {on} {a_place}",
        "heat {a_thing} and put it {on} {a_place}",
        "warm {a_thing} up, then leave it {on} {a_place}",
    ),
    "pick_cool_then_place": (
        "put a cold {thing} {on} {a_place}",
        "cool {a_thing} and put it {on} {a_place}",
        "chill {a_thing}, then leave it {on} {a_place}",
    ),
    "pick_two_obj_and_place": (
        "put two {things} {on} one {place}",
        "find two {things} and leave them {on} the same {place}",
        "bring two {things} together {on} one {place}",
    ),
}
"""Ways to say a goal; the first is the plainest."""


def goal(task: Task, wording: int) -> str:
    """The goal in words: the ``wording``-th way to say it."""
    return GOALS[task.type][wording].format(
        thing=task.thing,
        things=_plural(task.thing),
        a_thing=_a(task.thing),
        place=task.place,
        a_place=_a(task.place),
        on=_on(task.place),
    )


def opening(layout: Layout, scene: Scene, glance: bool) -> str:
    """The first user message. With ``glance`` it tells what lies in every place, else which actions there are."""
    task = f"Your task is to: {layout.goal}."
    if glance:
        seen = (f"{place}: {', '.join(scene.on(place)) or 'nothing'}" for place in scene.places)
        return f"{task}\nYou see {'; '.join(seen)}."
    return f"{around(scene)}\n{task}\n{possible(scene)}"


def around(scene: Scene) -> str:
    """What stands in the room."""
    return f"A {scene.room} with these places: {', '.join(scene.places)}."


def possible(scene: Scene) -> str:
    """All admissible actions."""
    return f"Available actions: {', '.join(map(str, admissible(scene)))}"


def told(scene: Scene, command: Command) -> str:
    """What the agent reads after a command; ``scene`` is as the command left it."""
    verb, what, other = command
    if verb in ("look", "inventory", "help", "examine"):
        return _seen(scene, verb, what)
    return {
        "go to": lambda: standing(scene, what),
        "open": lambda: f"The {what} is open. {_holding(scene, what)}",
        "close": lambda: f"The {what} is closed.",
        "take": lambda: f"You hold the {what}.",
        "move": lambda: f"The {what} is {_on(kind_of(other))} the {other}.",
    }.get(verb, lambda: _state(scene, what))()


def _seen(scene: Scene, verb: str, what: str) -> str:
    """What a command shows that changes nothing."""
    if verb == "help":
        return possible(scene)
    if verb == "inventory":
        return f"You hold {f'the {scene.held}' if scene.held else 'nothing'}."
    if verb == "look":
        return around(scene) if scene.at is None else standing(scene, scene.at)
    if what in scene.places:
        return standing(scene, what)
    return _state(scene, what)


def _state(scene: Scene, thing: str) -> str:
    """What was done to a thing."""
    if is_lamp(thing):
        return f"The {thing} is {'on' if thing in scene.lit else 'off'}."
    states = sorted(scene.states.get(thing, ())) or ["as usual"]
    return f"The {thing} is {' and '.join(states)}."


def standing(scene: Scene, place: str) -> str:
    """Where the agent stands and what lies there."""
    return f"You are at the {place}. {'It is closed.' if place in scene.closed else _holding(scene, place)}"


def _holding(scene: Scene, place: str) -> str:
    return f"{_on(kind_of(place)).capitalize()} it: {', '.join(scene.on(place)) or 'nothing'}."


def _on(place: str) -> str:
    return "in" if place in HOLLOW else "on"


def _a(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _plural(kind: str) -> str:
    if kind.endswith("knife"):
        return kind.removesuffix("fe") + "ves"
    return kind + ("es" if kind.endswith(("x", "ch", "to")) else "s")
