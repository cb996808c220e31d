from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from environments.contract import Episode, Step
from environments.dealing import digest_of, split_of
from environments.textcraft.bench import FORM
from environments.textcraft.book import own
from environments.textcraft.environment import TextCraft, goals
from environments.textcraft.small import GOALS, TextCraftSmall, book
from rl.errors import InvalidInput
from rl.records import ScenarioRef

ENVIRONMENTS = [TextCraft(), TextCraftSmall()]
SPLITS = ("train", "validation", "held_out")
COUNT = 300

both = pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda environment: environment.name)


def _open(environment: TextCraft, split: str, seed: int) -> Episode:
    return environment.open(ScenarioRef.model_validate({"environment": environment.name, "split": split, "seed": seed}))


def _play(episode: Episode, act: Callable[[Episode], str]) -> list[Step]:
    steps = [episode.step(act(episode))]
    while not steps[-1].done:
        steps.append(episode.step(act(episode)))
    return steps


def _solved(episode: Episode, act: Callable[[Episode], str]) -> float:
    return sum(step.reward for step in _play(episode, act))


def _lines(episode: Episode) -> list[str]:
    return (episode.messages[-1].content or "").split("\n")


@both
def test_the_opening_shows_what_is_needed_among_others(environment: TextCraft) -> None:
    for seed in range(40):
        episode = _open(environment, "train", seed)
        *lines, goal = _lines(episode)
        recipes = [line for line in lines if line.startswith("craft ")]
        kinds = [line.partition(": ")[0] for line in lines[len(recipes) :]]
        assert goal.startswith("Goal: ")
        assert set(kinds) <= own().kinds.keys()
        assert all(any(f" {kind}" in recipe for recipe in recipes) for kind in kinds)
        depth = int(episode.type.removeprefix("depth"))
        assert goal.split(" ", 2)[2] in (GOALS if environment.name == "textcraft-small" else goals(depth, "train"))
        used: list[str] = []
        while not episode.step(action := episode.oracle()).done:
            used.append(action)
        makes = {recipe.partition(" using ")[0] for recipe in recipes}
        assert {action.partition(" using ")[0] for action in [*used, action] if action.startswith("craft")} <= makes
        assert len(set(recipes)) == len(recipes)


def test_the_small_profile_is_small() -> None:
    for seed in range(200):
        episode = _open(ENVIRONMENTS[1], "train", seed)
        assert sum(len((message.content or "").split()) for message in episode.messages) <= 75
        assert sum(line.startswith("craft") for line in _lines(episode)) == 5
        assert len(_lines(episode)) == 6


def test_the_small_profile_has_recipes_of_few_parts() -> None:
    assert Counter(book().depths[goal] for goal in GOALS) == {1: 22, 2: 15}
    assert all(own().best[recipe.item] == recipe and len(recipe.parts) == 1 for recipe in book().recipes)
    episode = _open(ENVIRONMENTS[1], "held_out", 1)
    assert episode.step("get 2 oak log").observation == "Got 2 oak log"
    assert episode.step("craft 4 oak planks using 1 oak log").observation == "Crafted 4 oak planks"


def test_the_small_profile_asks_for_every_goal_in_every_split_and_for_no_scenario_in_two() -> None:
    """A model that has learned a split's scenarios by heart has seen none of another's; all names were said."""
    hashes, asked = {}, {}
    for split in SPLITS:
        episodes = [_open(ENVIRONMENTS[1], split, seed) for seed in range(1000)]
        hashes[split] = {episode.content_hash for episode in episodes}
        asked[split] = Counter(_lines(episode)[-1].split(" ", 2)[2] for episode in episodes)
    assert all(len(found) >= 990 for found in hashes.values())
    assert sum(map(len, hashes.values())) == len(set.union(*hashes.values()))
    for goals_asked in asked.values():
        assert goals_asked.keys() == set(GOALS)
        assert 10 <= min(goals_asked.values()) <= max(goals_asked.values()) <= 55


@both
@pytest.mark.parametrize("split", SPLITS)
def test_the_oracle_solves_everything_and_is_short(environment: TextCraft, split: str) -> None:
    turns = []
    for seed in range(200 if split == "held_out" else 60):
        steps = _play(_open(environment, split, seed), lambda episode: episode.oracle())
        assert steps[-1] == Step(None, 1.0, done=True, truncated=False)
        assert not any(step.reward for step in steps[:-1])
        turns.append(len(steps))
    longest = 3 if environment.name == "textcraft-small" else environment.size.actions
    assert 2 <= min(turns) <= max(turns) <= longest < environment.max_turns


@both
def test_the_oracle_goes_on_from_wherever_it_is(environment: TextCraft) -> None:
    chance = Random(1)
    for seed in range(60):
        episode = _open(environment, "held_out", seed)
        steps = [episode.step(episode.guess(chance))]
        steps += _play(episode, lambda episode: episode.oracle()) if not steps[0].done else []
        assert sum(step.reward for step in steps) == 1.0


@both
def test_doing_nothing_solves_nothing(environment: TextCraft) -> None:
    for seed in range(60):
        steps = _play(_open(environment, "held_out", seed), lambda _: environment.idle)
        assert (sum(step.reward for step in steps), len(steps), steps[-1].truncated) == (0, environment.max_turns, True)


@both
def test_chance_solves_little(environment: TextCraft) -> None:
    chance = Random(0)
    episodes = [_open(environment, "held_out", seed) for seed in range(200)]
    assert 1 <= sum(_solved(episode, lambda episode: episode.guess(chance)) for episode in episodes) <= 40


@both
def test_what_chance_says_is_well_formed(environment: TextCraft) -> None:
    chance = Random(2)
    for seed in range(40):
        answers = [
            step.observation or "" for step in _play(_open(environment, "train", seed), lambda e: e.guess(chance))
        ]
        assert all(answer.startswith(("Got", "Crafted", "You lack", "")) and FORM not in answer for answer in answers)


@both
def test_no_scenario_is_in_two_splits(environment: TextCraft) -> None:
    hashes = {split: {_open(environment, split, seed).content_hash for seed in range(COUNT)} for split in SPLITS}
    assert all(len(found) >= 0.95 * COUNT for found in hashes.values())
    assert sum(map(len, hashes.values())) == len(set.union(*hashes.values()))
    for split, found in hashes.items():
        assert {split_of(digest) for digest in found} == {split}


def test_no_goal_is_in_two_splits() -> None:
    for depth, sizes in {1: (48, 24, 24), 2: (60, 29, 30), 3: (60, 29, 30), 4: (11, 5, 5)}.items():
        assert tuple(len(goals(depth, split)) for split in SPLITS) == sizes
        assert len({item for split in SPLITS for item in goals(depth, split)}) == sum(sizes)
    asked = {
        split: {_lines(_open(ENVIRONMENTS[0], split, seed))[-1].split(" ", 2)[2] for seed in range(100)}
        for split in SPLITS
    }
    assert sum(map(len, asked.values())) == len(set.union(*asked.values()))


@both
def test_the_hash_is_of_goal_and_recipes_in_any_order(environment: TextCraft) -> None:
    episode = _open(environment, "train", 5)
    *_, goal = _lines(episode)
    _, number, item = goal.split(" ", 2)
    recipes = sorted(line for line in _lines(episode) if line.startswith("craft "))
    assert episode.content_hash == digest_of([item, int(number), recipes])


@both
def test_depths_take_turns(environment: TextCraft) -> None:
    depths = (1, 2) if environment.name == "textcraft-small" else environment.size.depths
    types = Counter(_open(environment, "held_out", seed).type for seed in range(20 * len(depths)))
    assert types == {f"depth{depth}": 20 for depth in depths}


@both
def test_a_scenario_is_the_same_each_time_and_open_episodes_do_not_meet(environment: TextCraft) -> None:
    one, other = _open(environment, "train", 7), _open(environment, "train", 7)
    assert (one.messages, one.content_hash) == (other.messages, other.content_hash)
    chance, again = Random(3), Random(3)
    assert _play(one, lambda episode: episode.guess(chance)) == _play(other, lambda episode: episode.guess(again))
    assert _solved(_open(environment, "train", 7), lambda episode: episode.oracle()) == 1.0


def test_the_scenarios_stay_what_they_are() -> None:
    """Results are compared over months: a change of the recipes that moves the scenarios must be seen."""
    assert [_open(environment, split, 0).content_hash[:12] for environment in ENVIRONMENTS for split in SPLITS] == [
        "0484db7fd11c",
        "b80290ae9e97",
        "d1d0da377b8b",
        "47e3d1b39e67",
        "baf03bf5e099",
        "c70c8f8f8a73",
    ]


@both
@given(reply=st.one_of(st.text(), st.text(alphabet="get craft using inventory,0123456789 oaklogplanks\n:")))
def test_any_text_is_an_action(environment: TextCraft, reply: str) -> None:
    episode = _open(environment, "held_out", 2)
    step = episode.step(reply)
    assert (step.reward, step.done, type(step.observation)) == (0.0, False, str)
    assert len(step.observation or "") < 400


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "\x00\x1b[2J",
        "x" * 100_000,
        '{"action": "get',
        '{"action": "inventory"}',
        "<think>get 1 feather",
        "Action:",
        "get",
        "get -1 feather",
        "get 0 feather",
        "get 1e9 feather",
        "get 99999 feather",
        "get ٣ feather",
        "craft",
        "craft using",
        "craft 1 a using b",
    ],
)
def test_text_that_is_no_action_is_told_what_one_looks_like(reply: str) -> None:
    episode = _open(ENVIRONMENTS[0], "held_out", 0)
    assert "Reply with one action" in (episode.step(reply).observation or "")
    assert episode.step("inventory").observation == "You have: nothing"


@pytest.mark.parametrize(
    "reply",
    [
        "Get 2  Feather.",
        "Thought: feathers\nAction: get 2 feather",
        "<think>hm</think>\nget 2 feather\nget 3 feather",
        "Action:\nget 2 feather",
        "`get 2 feather`",
        "get 2 feather\n",
    ],
)
def test_an_action_is_found_in_a_reply(reply: str) -> None:
    episode = _open(ENVIRONMENTS[0], "held_out", 0)
    assert episode.step(reply).observation == "Got 2 feather"


def test_what_is_over_stays_over() -> None:
    episode = _open(ENVIRONMENTS[1], "held_out", 1)
    _play(episode, lambda episode: episode.oracle())
    with pytest.raises(InvalidInput, match="the episode is over"):
        episode.step("inventory")


@both
def test_another_environments_scenario_is_refused(environment: TextCraft) -> None:
    with pytest.raises(InvalidInput, match="chess/train/1"):
        environment.open(ScenarioRef(environment="chess", split="train", seed=1))
