"""The engine's rules in rooms that are written out by hand."""

from __future__ import annotations

import pytest

from environments.alfworld.actions import Command, admissible, change, parse
from environments.alfworld.plan import holds
from environments.alfworld.scene import Layout, Scene, Task, kind_of, start
from environments.alfworld.tables import (
    APPLIANCES,
    DOORS,
    HOMES,
    KNIVES,
    LAMP_STANDS,
    LIT_ROOMS,
    ROOMS,
    SLICEABLE,
    SMALL_ROOMS,
    SMALL_THINGS,
    THINGS,
)
from environments.alfworld.words import GOALS, goal, told

KITCHEN = Layout(
    "kitchen",
    Task("pick_heat_then_place", "apple", "countertop"),
    "put a hot apple on a countertop",
    ("countertop 1", "fridge 1", "microwave 1", "sinkbasin 1"),
    (("knife 1", "countertop 1"), ("mug 1", "countertop 1"), ("apple 1", "fridge 1"), ("egg 1", "sinkbasin 1")),
)
BEDROOM = Layout(
    "bedroom",
    Task("look_at_obj_in_light", "book", "desklamp"),
    "look at a book under a desklamp",
    ("bed 1", "desk 1"),
    (("book 1", "bed 1"), ("desklamp 1", "desk 1"), ("pen 1", "desk 1")),
)


def _say(scene: Scene, *actions: str) -> list[str]:
    """What each action is answered with; the empty text where it cannot be done."""
    answers = []
    for action in actions:
        command = parse(action)
        assert command is not None, action
        possible = command in admissible(scene)
        if possible:
            change(scene, command)
        answers.append(told(scene, command) if possible else "")
    return answers


def test_a_closed_place_shows_and_gives_nothing_until_it_is_opened() -> None:
    scene = start(KITCHEN, closed=True)
    assert _say(scene, "take apple 1 from fridge 1", "open fridge 1") == ["", ""], "the agent stands elsewhere"
    assert _say(scene, "go to fridge 1", "take apple 1 from fridge 1", "examine apple 1") == [
        "You are at the fridge 1. It is closed.",
        "",
        "",
    ]
    assert _say(scene, "open fridge 1", "open fridge 1", "take apple 1 from fridge 1", "close fridge 1") == [
        "The fridge 1 is open. In it: apple 1.",
        "",
        "You hold the apple 1.",
        "The fridge 1 is closed.",
    ]
    assert _say(scene, "move apple 1 to fridge 1", "look", "close fridge 1") == [
        "",
        "You are at the fridge 1. It is closed.",
        "",
    ]


def test_the_hands_hold_one_thing_and_a_place_takes_what_can_lie_there() -> None:
    scene = start(KITCHEN, closed=True)
    assert _say(scene, "inventory", "go to countertop 1", "take mug 1 from countertop 1", "inventory") == [
        "You hold nothing.",
        "You are at the countertop 1. On it: knife 1, mug 1.",
        "You hold the mug 1.",
        "You hold the mug 1.",
    ]
    assert _say(scene, "take knife 1 from countertop 1", "take mug 1 from countertop 1") == ["", ""]
    assert _say(scene, "go to sinkbasin 1", "put mug 1 in/on sinkbasin 1", "take egg 1 from sinkbasin 1") == [
        "You are at the sinkbasin 1. In it: egg 1.",
        "The mug 1 is in the sinkbasin 1.",
        "You hold the egg 1.",
    ]
    assert scene.where == {"knife 1": "countertop 1", "apple 1": "fridge 1", "mug 1": "sinkbasin 1"}
    bedroom = start(BEDROOM, closed=True)
    assert _say(bedroom, "go to desk 1", "take pen 1 from desk 1", "go to bed 1", "move pen 1 to bed 1")[-1] == ""


def test_heat_cool_and_clean_need_their_appliance_and_the_thing_in_the_hands() -> None:
    scene = start(KITCHEN, closed=True)
    _say(scene, "go to sinkbasin 1")
    assert _say(scene, "clean egg 1 with sinkbasin 1") == [""], "it is not in the hands"
    assert _say(
        scene, "take egg 1 from sinkbasin 1", "heat egg 1 with microwave 1", "clean egg 1 with sinkbasin 1"
    ) == [
        "You hold the egg 1.",
        "",
        "The egg 1 is clean.",
    ]
    assert _say(scene, "go to microwave 1", "heat egg 1 with microwave 1", "cool egg 1 with microwave 1") == [
        "You are at the microwave 1. It is closed.",
        "The egg 1 is clean and hot.",
        "",
    ]
    assert _say(scene, "examine egg 1") == ["The egg 1 is clean and hot."]
    assert _say(scene, "go to fridge 1", "cool egg 1 with fridge 1", "examine egg 1")[1:] == [
        "The egg 1 is clean and cold.",
        "The egg 1 is clean and cold.",
    ]


def test_a_knife_in_the_hands_slices_what_lies_here_once() -> None:
    scene = start(KITCHEN, closed=False)
    assert _say(scene, "go to countertop 1", "take knife 1 from countertop 1", "slice mug 1 with knife 1")[-1] == ""
    assert _say(scene, "slice apple 1 with knife 1", "go to fridge 1") == [
        "",
        "You are at the fridge 1. In it: apple 1.",
    ]
    assert _say(scene, "slice apple 1 with knife 1", "slice apple 1 with knife 1", "examine apple 1") == [
        "The apple 1 is sliced.",
        "",
        "",
    ], "what is not in the hands is not examined"


def test_a_lamp_is_used_where_it_stands() -> None:
    scene = start(BEDROOM, closed=True)
    assert _say(scene, "use desklamp 1", "go to desk 1", "take desklamp 1 from desk 1") == [
        "",
        "You are at the desk 1. On it: desklamp 1, pen 1.",
        "",
    ]
    assert _say(scene, "use desklamp 1", "use desklamp 1", "use desklamp 1") == [
        "The desklamp 1 is on.",
        "The desklamp 1 is off.",
        "The desklamp 1 is on.",
    ]
    assert _say(scene, "take pen 1 from desk 1", "examine pen 1")[-1] == "The pen 1 is as usual."


def test_look_and_help_tell_where_one_is_and_what_one_can_do() -> None:
    scene = start(BEDROOM, closed=True)
    assert _say(scene, "look", "help", "go to bed 1", "go to bed 1", "take book 1 from bed 1", "help") == [
        "A bedroom with these places: bed 1, desk 1.",
        "Available actions: go to bed 1, go to desk 1, inventory, look, help",
        "You are at the bed 1. On it: book 1.",
        "",
        "You hold the book 1.",
        "Available actions: go to desk 1, examine bed 1, move book 1 to bed 1, examine book 1, inventory, look, help",
    ]


def test_every_admissible_command_reads_back_as_itself() -> None:
    for layout in (KITCHEN, BEDROOM):
        scene = start(layout, closed=False)
        for place in layout.places:
            scene.at = place
            assert all(parse(str(command)) == command for command in admissible(scene))


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("  Go  TO shelf 12. ", Command("go to", "shelf 12")),
        ('"take mug 1 from shelf 2"\nand then more', Command("take", "mug 1", "shelf 2")),
        ("put mug 1 on shelf 2", Command("move", "mug 1", "shelf 2")),
        ("put mug 1 in fridge 1", Command("move", "mug 1", "fridge 1")),
        ("move mug 1 in/on fridge 1", Command("move", "mug 1", "fridge 1")),
        ("`look`", Command("look")),
        ("go to shelf", None),
        ("go to the shelf 1", None),
        ("take mug 1", None),
        ("go to shelf 1 and open it", None),
        ("go to shelf 1234", None),
        ("go to shelf \u0661", None),
        ("", None),
    ],
)
def test_how_actions_are_written(text: str, command: Command | None) -> None:
    assert parse(text) == command


@pytest.mark.parametrize("hot", [False, True])
def test_a_treated_thing_is_wanted_in_its_state_and_in_its_place(hot: bool) -> None:
    scene = start(KITCHEN, closed=False)
    scene.where["apple 1"] = "countertop 1"
    scene.states["apple 1"] = {"hot"} if hot else {"cold", "clean"}
    assert holds(scene, KITCHEN.task) == hot
    assert not holds(scene, KITCHEN.task._replace(place="fridge"))
    assert holds(scene, KITCHEN.task._replace(type="pick_clean_then_place")) == (not hot)
    assert holds(scene, KITCHEN.task._replace(type="pick_cool_then_place")) == (not hot)
    assert holds(scene, KITCHEN.task._replace(type="pick_and_place_simple"))


def test_two_things_are_wanted_in_one_place() -> None:
    task = Task("pick_two_obj_and_place", "pen", "drawer")
    scene = Scene("bedroom", ("drawer 1", "drawer 2"), {"pen 1": "drawer 1", "pen 2": "drawer 2"}, set())
    assert not holds(scene, task)
    scene.where["pen 2"] = "drawer 1"
    assert holds(scene, task)


def test_a_thing_is_looked_at_in_the_hands_beside_a_lit_lamp() -> None:
    scene = start(BEDROOM, closed=True)
    for action, seen in [
        ("go to desk 1", False),
        ("use desklamp 1", False),
        ("go to bed 1", False),
        ("take book 1 from bed 1", False),
        ("go to desk 1", True),
        ("use desklamp 1", False),
        ("use desklamp 1", True),
        ("move book 1 to desk 1", False),
    ]:
        assert _say(scene, action) != [""]
        assert holds(scene, BEDROOM.task) == seen, action


def test_goals_in_words() -> None:
    assert [
        goal(Task("pick_two_obj_and_place", thing, "sofa"), 0) for thing in ("knife", "box", "watch", "potato")
    ] == [
        "put two knives on one sofa",
        "put two boxes on one sofa",
        "put two watches on one sofa",
        "put two potatoes on one sofa",
    ]
    assert goal(Task("pick_heat_then_place", "egg", "fridge"), 1) == "heat an egg and put it in a fridge"
    assert goal(Task("look_at_obj_in_light", "alarmclock", "desklamp"), 0) == "look at an alarmclock under a desklamp"
    assert len({len(ways) for ways in GOALS.values()}) == 1


@pytest.mark.parametrize(("rooms", "things"), [(ROOMS, THINGS), (SMALL_ROOMS, SMALL_THINGS)])
def test_the_tables_fit_together(rooms: dict[str, dict[str, tuple[int, int]]], things: dict[str, list[str]]) -> None:
    assert rooms.keys() == things.keys()
    for room, kinds in things.items():
        for kind in kinds:
            assert len(HOMES[kind] & rooms[room].keys()) >= 2, f"a {kind} can be moved in a {room}"
    assert set().union(*THINGS.values()) == HOMES.keys()
    known = {place for room in ROOMS.values() for place in room}
    assert known >= DOORS.union(*HOMES.values())
    assert HOMES.keys() >= KNIVES | SLICEABLE
    assert all(LAMP_STANDS & ROOMS[room].keys() for room in LIT_ROOMS)
    for appliance, _, able in APPLIANCES.values():
        assert appliance in ROOMS["kitchen"]
        assert able <= HOMES.keys()
    assert kind_of("mug 2") == "mug"
