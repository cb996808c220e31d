from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import cycle
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from environments.alfworld import FORM, AlfWorld, AlfWorldSmall, Household
from environments.alfworld.rooms import FULL, SMALL, draw
from environments.alfworld.scene import Layout, Task, kind_of, start
from environments.alfworld.tables import DOORS, HOMES
from environments.alfworld.words import GOALS, NOTHING
from environments.contract import Episode, Step
from environments.dealing import digest_of, split_of
from rl.errors import InvalidInput
from rl.records import Message, ScenarioRef

ENVIRONMENTS = [AlfWorld(), AlfWorldSmall()]
SPLITS = ("train", "validation", "held_out")
COUNT = 300

both = pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda environment: environment.name)


def _open(environment: AlfWorld, split: str, seed: int) -> Episode:
    return environment.open(ScenarioRef.model_validate({"environment": environment.name, "split": split, "seed": seed}))


def _play(episode: Episode, act: Callable[[Episode], str]) -> tuple[float, list[Step]]:
    """The episode's reward and its steps."""
    steps = [episode.step(act(episode))]
    while not steps[-1].done:
        steps.append(episode.step(act(episode)))
    return sum(step.reward for step in steps), steps


def test_a_transcript() -> None:
    episode = _open(ENVIRONMENTS[1], "held_out", 1)
    assert episode.type == "pick_heat_then_place"
    assert episode.messages == [
        Message(role="system", content=AlfWorldSmall.system),
        Message(
            role="user",
            content="Your task is to: put a hot mug on a countertop.\nYou see countertop 1: egg 1; "
            "diningtable 1: bread 1; microwave 1: mug 1; sinkbasin 1: plate 1.",
        ),
    ]
    assert episode.oracle() == "go to microwave 1"
    assert episode.step("go to microwave 1") == Step(
        "You are at the microwave 1. In it: mug 1.", 0.0, done=False, truncated=False
    )
    assert episode.step("take mug 1 from microwave 1").observation == "You hold the mug 1."
    assert episode.step("heat mug 1 with microwave 1").observation == "The mug 1 is hot."
    assert episode.step("Thought: to the counter.\nAction: Go to countertop 1").observation == (
        "You are at the countertop 1. On it: egg 1."
    )
    assert episode.step("<think>done?</think>\nput mug 1 in/on countertop 1") == Step(
        None, 1.0, done=True, truncated=False
    )
    with pytest.raises(InvalidInput, match="the episode is over"):
        episode.step("look")


def test_the_opening_of_a_full_room() -> None:
    episode = _open(ENVIRONMENTS[0], "held_out", 1)
    first, second, third = (episode.messages[-1].content or "").split("\n")
    assert first.startswith("A living room with these places: armchair 1, cabinet 1,")
    assert second == "Your task is to: carry a cellphone to a desklamp and turn the light on."
    assert third.startswith("Available actions: go to armchair 1, go to cabinet 1,")
    assert third.endswith("go to sofa 1, inventory, look, help")


def test_the_documented_episode() -> None:
    episode = _open(ENVIRONMENTS[0], "held_out", 36)
    said: list[str] = []

    def act(episode: Episode) -> str:
        said.append(episode.oracle())
        return said[-1]

    reward, steps = _play(episode, act)
    assert (episode.type, reward) == ("pick_heat_then_place", 1.0)
    assert said == [
        *("go to microwave 1", "open microwave 1", "take egg 1 from microwave 1", "heat egg 1 with microwave 1"),
        *("go to fridge 1", "open fridge 1", "move egg 1 to fridge 1"),
    ]
    assert [step.observation for step in steps] == [
        "You are at the microwave 1. It is closed.",
        "The microwave 1 is open. In it: egg 1.",
        "You hold the egg 1.",
        "The egg 1 is hot.",
        "You are at the fridge 1. It is closed.",
        "The fridge 1 is open. In it: potato 1.",
        None,
    ]


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("", f"{NOTHING} {FORM}"),
        ("dance", f"{NOTHING} {FORM}"),
        ('{"action": "go to', f"{NOTHING} {FORM}"),
        ("<think>go to shelf 1", f"{NOTHING} {FORM}"),
        ("\x00\x1b[2J\u202e", f"{NOTHING} {FORM}"),
        ("open sofa 1", NOTHING),
        ("go to moon 1", NOTHING),
        ("take cellphone 1 from armchair 1", NOTHING),
        ("use desklamp 1", NOTHING),
    ],
)
def test_what_cannot_be_done_uses_up_a_turn(reply: str, answer: str) -> None:
    episode = _open(ENVIRONMENTS[0], "held_out", 1)
    for _ in range(29):
        assert episode.step(reply) == Step(answer, 0.0, done=False, truncated=False)
    assert episode.step(reply) == Step(None, 0.0, done=True, truncated=True)


def test_an_over_long_reply_is_no_action() -> None:
    episode = _open(ENVIRONMENTS[0], "held_out", 1)
    assert "longer than" in (episode.step("go to sofa 1" + " " * 100_000).observation or "")
    assert episode.step("look").observation == episode.messages[-1].content.split("\n")[0]  # type: ignore[union-attr]


def test_the_goal_in_the_last_turn_is_no_truncation() -> None:
    episode = _open(ENVIRONMENTS[1], "held_out", 1)
    for _ in range(3):
        episode.step("look")
    _, steps = _play(episode, lambda episode: episode.oracle())
    assert steps[-1] == Step(None, 1.0, done=True, truncated=False)
    assert len(steps) == 8 - 3


@both
def test_another_environments_scenario_is_refused(environment: AlfWorld) -> None:
    with pytest.raises(InvalidInput, match="chess/train/1"):
        environment.open(ScenarioRef(environment="chess", split="train", seed=1))


@both
@pytest.mark.parametrize("split", SPLITS)
def test_the_oracle_solves_everything_and_is_short(environment: AlfWorld, split: str) -> None:
    turns = []
    for seed in range(200 if split == "held_out" else 50):
        reward, steps = _play(_open(environment, split, seed), lambda episode: episode.oracle())
        assert reward == 1.0
        turns.append(len(steps))
    assert min(turns) >= 3
    assert max(turns) <= (11 if environment.name == "alfworld" else 6)


@both
def test_doing_nothing_solves_nothing(environment: AlfWorld) -> None:
    for seed in range(100):
        reward, steps = _play(_open(environment, "held_out", seed), lambda _: environment.idle)
        assert (reward, len(steps), steps[-1].truncated) == (0.0, environment.max_turns, True)


@both
def test_chance_solves_next_to_nothing(environment: AlfWorld) -> None:
    chance = Random(0)
    episodes = [_open(environment, "held_out", seed) for seed in range(200)]
    assert sum(_play(episode, lambda episode: episode.guess(chance))[0] for episode in episodes) <= 4


@both
def test_no_scenario_is_in_two_splits(environment: AlfWorld) -> None:
    hashes = {split: {_open(environment, split, seed).content_hash for seed in range(COUNT)} for split in SPLITS}
    assert all(len(found) >= COUNT - 3 for found in hashes.values())
    assert sum(map(len, hashes.values())) == len(set.union(*hashes.values()))
    for split, found in hashes.items():
        assert {split_of(digest) for digest in found} == {split}


@both
def test_every_type_of_task_is_dealt_out_about_as_often(environment: AlfWorld) -> None:
    types = Counter(_open(environment, "held_out", seed).type for seed in range(COUNT))
    share = COUNT / len(environment.setting.tasks)
    assert types.keys() == set(environment.setting.tasks)
    assert all(0.6 * share < count < 1.4 * share for count in types.values())


def test_the_scenarios_stay_what_they_are() -> None:
    """Results are compared over months: a change of the tables that moves the scenarios must be seen."""
    assert [_open(environment, split, 0).content_hash[:12] for environment in ENVIRONMENTS for split in SPLITS] == [
        "5ee1d5f3a4ff",
        "b63083c1db1c",
        "df7cd9f21a7e",
        "2333285b30c0",
        "9eea5275eca4",
        "c2485a6c4a23",
    ]


@both
def test_a_scenario_is_the_same_each_time_and_open_episodes_do_not_meet(environment: AlfWorld) -> None:
    def transcript(episodes: list[Episode]) -> list[list[Step]]:
        chances = [Random(seed) for seed in range(len(episodes))]
        turns = range(environment.max_turns - 1)
        steps = [
            [episode.step(episode.guess(chance)) for episode, chance in zip(episodes, chances, strict=True)]
            for _ in turns
        ]
        return [list(column) for column in zip(*steps, strict=True)]

    together = transcript([_open(environment, "train", seed) for seed in (5, 5, 6)])
    alone = [transcript([_open(environment, "train", seed) for seed in (5, 5, 6)][: n + 1])[n] for n in range(3)]
    assert together == alone
    assert together[0] != together[1], "different actions in one scenario"


def _numbers_turned(layout: Layout) -> Layout:
    """The layout with the numbers of places and things given out from the other end."""
    names = [*layout.places, *(thing for thing, _ in layout.things)]
    counts = Counter(map(kind_of, names))
    turned = {name: f"{kind_of(name)} {counts[kind_of(name)] + 1 - int(name.split()[-1])}" for name in names}
    return layout._replace(
        goal="anything",
        places=tuple(turned[place] for place in layout.places),
        things=tuple((turned[thing], turned[place]) for thing, place in reversed(layout.things)),
    )


@both
def test_numbers_and_wording_do_not_make_another_scenario_but_all_else_does(environment: AlfWorld) -> None:
    layout = draw(environment.setting, Random(3))
    key = digest_of(layout.key())
    assert digest_of(_numbers_turned(layout).key()) == key
    others = [
        layout._replace(room="attic"),
        layout._replace(task=layout.task._replace(thing="sofa")),
        layout._replace(task=layout.task._replace(place="sofa")),
        layout._replace(task=Task("pick_two_obj_and_place", layout.task.thing, layout.task.place)),
        layout._replace(places=(*layout.places, "attic 1")),
        layout._replace(things=layout.things[1:]),
    ]
    assert len({key, *(digest_of(other.key()) for other in others)}) == 7


@pytest.mark.parametrize("seed", range(60))
def test_a_room_keeps_its_own_rules(seed: int) -> None:
    for setting in (FULL, SMALL):
        layout = draw(setting, Random(seed))
        scene = start(layout, closed=True)
        names = [*layout.places, *(thing for thing, _ in layout.things)]
        assert len(set(names)) == len(names)
        assert setting.places[0] <= len(layout.places) <= setting.places[1]
        assert 1 <= len(layout.things) <= setting.things[1] + 1
        assert scene.closed == {place for place in layout.places if kind_of(place) in DOORS}
        for thing, place in layout.things:
            assert place in layout.places
            assert kind_of(thing) == "desklamp" or kind_of(place) in HOMES[kind_of(thing)]
            assert (kind_of(thing), kind_of(place)) != (layout.task.thing, layout.task.place)


def test_the_small_rooms_are_short_to_read() -> None:
    assert len(AlfWorldSmall.system.split()) <= 80
    for seed in range(COUNT):
        episode = _open(ENVIRONMENTS[1], "train", seed)
        texts = [message.content or "" for message in episode.messages]
        assert sum(len(text.split()) for text in texts) <= 150
        _, steps = _play(episode, lambda episode: episode.oracle())
        assert all(len((text or "").split()) <= 80 for text in [texts[-1], *(step.observation for step in steps)])
        assert len(_open(ENVIRONMENTS[1], "train", seed).oracle().split()) <= 6


words = st.sampled_from(
    [
        *("go to fridge 1", "open fridge 1", "go to countertop 1", "take apple 1 from countertop 1", "look", "help"),
        *("Thought: x\nAction: go to microwave 1", "inventory", "heat apple 1 with microwave 1", "examine mug 1"),
    ]
)


@given(st.sampled_from(ENVIRONMENTS), st.integers(0, 500), st.lists(words | st.text(), min_size=1, max_size=6))
def test_any_reply_leads_to_a_step(environment: AlfWorld, seed: int, replies: list[str]) -> None:
    said = cycle(replies)
    _, steps = _play(_open(environment, "train", seed), lambda _: next(said))
    assert [step.done for step in steps] == [False] * (len(steps) - 1) + [True]
    assert all((step.observation is None) == step.done for step in steps)
    assert sum(step.reward for step in steps) in (0.0, 1.0)
    assert steps[-1].truncated == (steps[-1].reward == 0.0)


@both
def test_what_the_environment_says_of_itself(environment: AlfWorld) -> None:
    assert isinstance(_open(environment, "train", 0), Household)
    assert environment.scenarios("train") is None
    assert (environment.success, environment.blocks, list(environment.tools)) == (1.0, False, [])
    assert "own-engine" in environment.profile
    assert set(environment.setting.tasks) <= set(GOALS)
