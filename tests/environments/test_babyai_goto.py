from __future__ import annotations

import random
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

import environments
from environments.babyai.goto_level import Level
from environments.babyai.goto_text import Sighting, path_to
from environments.contract import Episode, Step
from rl.errors import InvalidInput
from rl.records import Message, ScenarioRef

COUNT = 300


def _open(split: str, seed: int) -> Episode:
    ref = ScenarioRef.model_validate({"environment": "babyai-goto", "split": split, "seed": seed})
    return environments.load("babyai-goto").open(ref)


def _play(episode: Episode, act: Callable[[str], str]) -> tuple[float, int]:
    """The episode's reward and its turns."""
    observation, reward, turns = episode.messages[-1].content or "", 0.0, 0
    while True:
        step = episode.step(act(observation))
        reward, turns = reward + step.reward, turns + 1
        if step.done:
            return reward, turns
        observation = step.observation or ""


def test_a_transcript() -> None:
    episode = _open("held_out", 0)
    assert episode.content_hash.startswith("df7985f111b33c9f")
    assert episode.messages == [
        Message(role="system", content="Reply with one action: turn left, turn right, move forward, go to <object>."),
        Message(role="user", content="Goal: go to the purple key\nYou see: wall 1 ahead"),
    ]
    assert episode.oracle() == "turn right"
    seen = "Goal: go to the purple key\nYou see: blue box 3 right; blue ball 1 ahead 3 right; wall 2 ahead"
    assert episode.step("turn right") == Step(seen, 0.0, done=False, truncated=False)
    assert episode.step("turn right").observation == (
        "Goal: go to the purple key\nYou see: blue box 3 ahead; purple box 2 ahead 2 right; "
        "blue ball 3 ahead 1 left; purple key 3 ahead 1 right; wall 4 ahead"
    )
    assert episode.oracle() == "go to purple key"
    assert episode.step(" Go to purple KEY\n") == Step(None, 1.0, done=True, truncated=False)


def test_walking_to_a_wrong_object_fails_for_good() -> None:
    assert _open("held_out", 1).step("go to grey ball") == Step(None, 0.0, done=True, truncated=False)


def test_the_nearest_of_several_goals_counts() -> None:
    episode = _open("held_out", 6)
    assert (episode.messages[-1].content or "").startswith("Goal: go to a grey box\n")
    assert episode.step("go to grey box").reward == 1.0


@pytest.mark.parametrize(
    ("action", "note"),
    [
        ("", "Unknown action.\n"),
        ("jump", "Unknown action.\n"),
        ("turn left and then right", "Unknown action.\n"),
        ("go to", "Unknown action.\n"),
        ("go to purple key", "Nothing happens.\n"),
        ("go to the moon", "Nothing happens.\n"),
        ("move forward", ""),
    ],
)
def test_what_cannot_be_done_uses_up_a_turn(action: str, note: str) -> None:
    episode = _open("held_out", 0)
    same = note + (episode.messages[-1].content or "")
    assert episode.step(action) == Step(same, 0.0, done=False, truncated=False)
    assert episode.step(action) == Step(same, 0.0, done=False, truncated=False)
    assert episode.step(action) == Step(None, 0.0, done=True, truncated=True)


def test_moving_and_turning_change_the_view() -> None:
    episode = _open("held_out", 1)
    opening = episode.messages[-1].content
    assert episode.step("move forward").observation == (
        "Goal: go to the yellow box\nYou see: yellow box 1 left; yellow ball 1 right; "
        "grey ball 1 ahead 1 right; green key 2 ahead; wall 3 ahead"
    )
    other = _open("held_out", 1)
    other.step("turn left")
    assert other.step("turn right").observation == opening


def test_an_episode_that_is_over_takes_no_action() -> None:
    episode = _open("held_out", 1)
    episode.step(episode.oracle())
    with pytest.raises(InvalidInput, match="the episode is over"):
        episode.step("turn left")


def test_another_environments_scenario_is_refused() -> None:
    ref = ScenarioRef(environment="chess", split="train", seed=1)
    with pytest.raises(InvalidInput, match="chess/train/1"):
        environments.load("babyai-goto").open(ref)


@pytest.mark.parametrize("split", ["train", "validation", "held_out"])
@pytest.mark.parametrize("count", [60, pytest.param(COUNT, marks=pytest.mark.slow)])
def test_the_oracle_solves_everything(split: str, count: int) -> None:
    solved = 0
    for seed in range(count):
        episode = _open(split, seed)
        step = episode.step(episode.oracle())
        while not step.done:
            step = episode.step(episode.oracle())
        solved += step.reward == 1.0
    assert solved == count


def test_doing_nothing_solves_nothing() -> None:
    assert [_play(_open("held_out", seed), lambda _: "") for seed in range(COUNT)] == [(0.0, 3)] * COUNT


def test_naming_a_random_object_in_view_is_far_from_enough() -> None:
    rng = random.Random(0)

    def act(observation: str) -> str:
        names = re.findall(r"(\w+ (?:ball|box|key)) \d", observation)
        return f"go to {rng.choice(names)}" if names else "turn right"

    solved = sum(_play(_open("held_out", seed), act)[0] for seed in range(COUNT))
    assert 0.25 * COUNT < solved < 0.5 * COUNT


def test_guessing_is_far_from_enough() -> None:
    chance = random.Random(0)
    solved = 0.0
    for seed in range(COUNT):
        episode, done = _open("held_out", seed), False
        while not done:
            _, reward, done, _ = episode.step(episode.guess(chance))
            solved += reward
        episode.close()
        assert episode.type == "babyai-goto"
    assert 0.15 * COUNT < solved < 0.3 * COUNT


def test_random_primitives_are_hopeless() -> None:
    rng = random.Random(0)
    acts = ("turn left", "turn right", "move forward")
    assert sum(_play(_open("held_out", seed), lambda _: rng.choice(acts))[0] for seed in range(COUNT)) < 0.1 * COUNT


def test_episodes_of_one_scenario_do_not_disturb_each_other() -> None:
    one, other = _open("held_out", 0), _open("held_out", 0)
    one.step("turn right")
    one.step("turn left")
    assert other.messages == _open("held_out", 0).messages
    assert (one.step("").done, other.step("").done) == (True, False)


words = st.sampled_from(
    ["turn left", "turn right", "move forward", "go to red ball", "go to grey box", "go to blue key"]
)


@given(st.integers(0, 10_000), st.lists(st.one_of(words, st.text(max_size=30)), min_size=3, max_size=3))
def test_any_reply_is_an_action_and_three_are_the_end(seed: int, replies: list[str]) -> None:
    episode = _open("train", seed)
    steps = []
    for reply in replies:
        steps.append(episode.step(reply))
        if steps[-1].done:
            break
    assert [step.done for step in steps] == [False] * (len(steps) - 1) + [True]
    assert [step.reward for step in steps[:-1]] == [0.0] * (len(steps) - 1)
    assert steps[-1].reward in (0.0, 1.0)
    assert all((step.observation is None) == step.done for step in steps)
    assert not (steps[-1].truncated and steps[-1].reward)
    assert steps[-1].truncated <= (len(steps) == 3)


def test_a_sighting_in_words() -> None:
    assert Sighting(3, -1, "red ball").phrase() == "red ball 3 ahead 1 left"
    assert Sighting(0, 2, "grey key").phrase() == "grey key 2 right"
    assert Sighting(2, 0, "blue box").phrase() == "blue box 2 ahead"


def test_the_path_goes_around_what_is_in_the_way() -> None:
    level = Level(0)
    for x, y, _ in list(level.objects()):
        level.grid.set(x, y, None)
    ball, key = (Level(seed) for seed in (0, 0))
    cells = [cell for cell in ball.grid.grid + key.grid.grid if cell is not None and cell.type != "wall"]
    cells[0].color, cells[0].type, cells[1].color, cells[1].type = "red", "ball", "grey", "box"
    level.grid.set(3, 1, cells[0])
    level.agent_pos, level.agent_dir = (1, 1), 0
    assert path_to(level, "red ball") == (2,)
    level.grid.set(2, 1, cells[1])
    assert path_to(level, "red ball") == (1, 2, 0, 2, 2, 0)
    assert path_to(level, "grey box") == (6,)
    assert path_to(level, "green ball") is None
