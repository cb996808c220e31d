"""Household tasks in text: ALFRED's operators and ALFWorld's commands, in an engine of our own.

The agent goes from place to place in one room, opens what is closed, carries one thing at a time, and heats, cools,
cleans or lights what the task asks for. Nothing of ALFWorld's code, games or texts is used: rooms are drawn by chance
from tables of our own, and every one can be solved.
"""

from __future__ import annotations

from random import Random

from environments.alfworld.actions import admissible, change, parse
from environments.alfworld.plan import holds, plan
from environments.alfworld.rooms import FULL, SMALL, Setting, draw
from environments.alfworld.scene import Layout, start
from environments.alfworld.words import NOTHING, opening, told
from environments.contract import Episode
from environments.dealing import Dealt, deal
from environments.episode import TextEnvironment, TextEpisode, Took, action_of, check_owner
from rl.records import ScenarioRef

FORM = 'An action is one line, such as "go to shelf 1".'


class AlfWorld(TextEnvironment):
    """All rooms and the six types of task, with most things out of sight at the start."""

    name = "alfworld"
    profile = "own-engine"
    system = """You do chores in a household. Each turn you take one action and read what it led to:
go to PLACE
open PLACE, close PLACE
take THING from PLACE, move THING to PLACE
heat THING with PLACE, cool THING with PLACE, clean THING with PLACE
slice THING with THING
use THING
examine THING, examine PLACE
look, inventory, help
PLACE and THING are names with a number, such as shelf 1 and mug 2. You can carry one thing. You reach only what is at \
the place where you are, and must open what is closed. heat needs a microwave, cool a fridge, clean a sinkbasin, each \
with the thing in your hands. use turns a lamp on or off. help lists what you can do. You may think first; write your \
action on a last line that begins with "Action:"."""
    max_turns = 30
    max_tokens = 256
    idle = "look"
    setting: Setting = FULL
    glance: bool = False
    """Whether all doors are open and the first message tells what lies everywhere."""

    def open(self, ref: ScenarioRef) -> Episode:
        """A fresh episode of the scenario.

        Raises:
            InvalidInput: the scenario belongs to another environment.
        """
        check_owner(self, ref)
        return Household(self, ref, deal(ref, lambda chance: draw(self.setting, chance), Layout.key))


class AlfWorldSmall(AlfWorld):
    """One kitchen of four or five places without secrets, and two types of task: for small models."""

    name = "alfworld-small"
    profile = "own-engine-small"
    system = """Reply with one action:
go to PLACE
take THING from PLACE
move THING to PLACE
heat THING with microwave 1
You reach only what is at the place where you are, and carry one thing."""
    max_turns = 8
    max_tokens = 24
    setting = SMALL
    glance = True


class Household(TextEpisode):
    """One room being lived in."""

    def __init__(self, environment: AlfWorld, ref: ScenarioRef, dealt: Dealt[Layout]) -> None:
        layout = dealt.content
        self._scene = start(layout, closed=not environment.glance)
        self._task = layout.task
        text = opening(layout, self._scene, environment.glance)
        super().__init__(environment, ref, dealt.digest, text, layout.task.type)

    def _act(self, reply: str) -> Took:
        command = parse(action_of(reply))
        if command is None:
            return Took(f"{NOTHING} {FORM}")
        if command not in admissible(self._scene):
            return Took(NOTHING)
        change(self._scene, command)
        return Took(told(self._scene, command), 1.0 if self.solved else 0.0, self.solved)

    @property
    def solved(self) -> bool:
        """Whether the room is as the task asks."""
        return holds(self._scene, self._task)

    def oracle(self) -> str:
        """The first command of the shortest plan, which knows where everything is."""
        return str(next(iter(plan(self._scene, self._task)), self._environment.idle))

    def guess(self, chance: Random) -> str:
        """One of the admissible commands."""
        return str(chance.choice(admissible(self._scene)))
