"""The planner against a search, and the tasks against an agent that knows only what it has read."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest

from environments.alfworld import AlfWorld, AlfWorldSmall
from environments.alfworld.actions import Command, admissible, change
from environments.alfworld.plan import holds, plan
from environments.alfworld.rooms import FULL, SMALL, Setting, draw
from environments.alfworld.scene import Scene, Task, is_lamp, kind_of, start
from environments.alfworld.tables import HOMES, LAMP, LAMP_STANDS
from environments.contract import Episode
from rl.records import ScenarioRef

LOOKING = {"examine", "look", "inventory", "help", "close", "slice"}


def _copy(scene: Scene) -> Scene:
    states = {thing: set(found) for thing, found in scene.states.items()}
    return replace(scene, where=scene.where.copy(), closed=set(scene.closed), lit=set(scene.lit), states=states)


def _useful(scene: Scene, task: Task) -> Iterator[Command]:
    """Commands that can be part of a shortest way to the goal: they touch its things and the places that hold them."""
    doors = {at for thing, at in scene.where.items() if kind_of(thing) == task.thing}
    for command in admissible(scene):
        verb, what, _ = command
        if verb in LOOKING or (verb == "take" and kind_of(what) != task.thing):
            continue
        if verb == "open" and what not in doors and kind_of(what) != task.place:
            continue
        yield command


def _shortest(scene: Scene, task: Task) -> int:
    """The fewest commands that reach the goal, breadth-first."""
    queue, seen = deque([(scene, 0)]), set()
    while queue:
        scene, length = queue.popleft()
        if holds(scene, task):
            return length
        for command in _useful(scene, task):
            after = _copy(scene)
            change(after, command)
            state = repr((after.at, after.held, sorted(after.where.items()), sorted(after.closed), after.lit))
            state += repr(sorted((thing, sorted(states)) for thing, states in after.states.items()))
            if state not in seen:
                seen.add(state)
                queue.append((after, length + 1))
    raise AssertionError("the goal is out of reach")


@pytest.mark.parametrize(("setting", "seeds"), [(SMALL, 12), (FULL, 8)])
def test_no_way_is_shorter_than_the_plan(setting: Setting, seeds: int) -> None:
    for seed in range(seeds):
        layout = draw(setting, Random(seed))
        scene = start(layout, closed=setting is FULL)
        assert len(plan(scene, layout.task)) == _shortest(scene, layout.task)


@pytest.mark.parametrize("setting", [SMALL, FULL])
def test_the_plan_leads_to_the_goal_from_anywhere(setting: Setting) -> None:
    for seed in range(120):
        chance = Random(seed)
        layout = draw(setting, chance)
        scene = start(layout, closed=setting is FULL)
        for _ in range(seed % 40):
            change(scene, chance.choice(admissible(scene)))
        for command in plan(scene, layout.task):
            assert not holds(scene, layout.task)
            assert command in admissible(scene)
            change(scene, command)
        assert holds(scene, layout.task)
        assert plan(scene, layout.task) == []


def test_a_room_without_what_the_task_needs_has_no_plan() -> None:
    scene = Scene("kitchen", ("countertop 1",), {"mug 1": "countertop 1"}, set())
    with pytest.raises(ValueError, match="empty"):
        plan(scene, Task("pick_and_place_simple", "mug", "fridge"))


class _Searcher:
    """Looks where the goal's things and the lamp can lie, one place after another, and then does the task.

    It is told the task's kinds, and reads all else in the observations.
    """

    def __init__(self, episode: Episode, task: Task) -> None:
        text = episode.messages[-1].content or ""
        found = re.search(r"with these places: (.*?)\.", text)
        assert found is not None
        self.places = tuple(found[1].split(", "))
        self.scene = Scene("", self.places, {}, set())
        self.task = task
        wanted = HOMES[task.thing] | (LAMP_STANDS if task.place == LAMP else set())
        self.ahead = [place for place in self.places if kind_of(place) in wanted and kind_of(place) != task.place]
        self.opened: set[str] = set()

    def act(self) -> Command:
        try:
            return plan(self.scene, self.task)[0]
        except ValueError:
            at = self.scene.at
            if at in self.scene.closed:
                return Command("open", at or "")
            lying = [thing for thing in self.scene.on(at or "") if kind_of(thing) == self.task.thing]
            if lying and self.scene.held is None:
                return Command("take", lying[0], at or "")
            return Command("go to", self.ahead.pop(0)) if self.ahead else Command("look")

    def read(self, command: Command, observation: str) -> None:
        verb, what, _ = command
        change(self.scene, command)
        if verb == "go to" and "It is closed" in observation:
            self.scene.closed.add(what)
        if verb in ("go to", "open") and (found := re.search(r"[IO]n it: (.*)\.", observation)):
            names = [] if found[1] == "nothing" else found[1].split(", ")
            self.scene.where.update(dict.fromkeys(names, what))
            if what in self.ahead and not any(is_lamp(name) for name in names):
                self.ahead.remove(what)


def test_thirty_turns_are_enough_for_one_who_has_to_search() -> None:
    solved = 0
    for seed in range(100):
        environment = AlfWorld()
        ref = ScenarioRef(environment="alfworld", split="held_out", seed=seed)
        episode = environment.open(ref)
        searcher = _Searcher(episode, episode._task)  # type: ignore[attr-defined]
        done, reward = False, 0.0
        while not done:
            command = searcher.act()
            observation, reward, done, _ = episode.step(str(command))
            if not done:
                searcher.read(command, observation or "")
        solved += reward == 1.0
    assert solved == 100


def test_the_small_rooms_hide_nothing() -> None:
    for seed in range(50):
        episode = AlfWorldSmall().open(ScenarioRef(environment="alfworld-small", split="train", seed=seed))
        text = episode.messages[-1].content or ""
        assert all(thing in text for thing in episode._scene.where)  # type: ignore[attr-defined]
        assert episode._scene.closed == set()  # type: ignore[attr-defined]
