from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

import environments
from environments.babyai.levels import NAMES
from environments.contract import Episode, Step
from rl.errors import InvalidInput
from rl.records import ScenarioRef

COUNT = 200
"""Held-out scenarios: five of each level."""


def _open(split: str, seed: int) -> Episode:
    ref = ScenarioRef.model_validate({"environment": "babyai", "split": split, "seed": seed})
    return environments.load("babyai").open(ref)


def _held_out(level: str, nth: int = 0) -> Episode:
    return _open("held_out", NAMES.index(level) + 40 * nth)


def _play(episode: Episode, act: Callable[[Episode], str]) -> tuple[float, int]:
    """The episode's reward and its turns."""
    reward, turns, done = 0.0, 0, False
    while not done:
        _, gained, done, _ = episode.step(act(episode))
        reward, turns = reward + gained, turns + 1
    return reward, turns


def _say(episode: Episode, *actions: str) -> str:
    """The last observation."""
    steps = [episode.step(action) for action in actions]
    return steps[-1].observation or ""


def test_a_transcript() -> None:
    episode = _held_out("KeyInBox")
    assert episode.content_hash.startswith("ecd832b228a3b517")
    assert episode.type == "KeyInBox"
    system, user = episode.messages
    assert (system.role, user.role) == ("system", "user")
    assert "toggle and go through <closed door>" in (system.content or "")
    seen = "blue door 1 (locked): 5 ahead, 2 left; wall: 5 ahead"
    assert user.content == f"Goal: open the door\nYou see: {seen}\nYou carry: nothing"
    assert episode.oracle() == "turn right"
    seen = "green box 1: 2 ahead, 1 right; wall: 4 ahead"
    assert episode.step("turn right") == Step(
        f"Goal: open the door\nYou see: {seen}\nYou carry: nothing", 0.0, done=False, truncated=False
    )
    assert "You see: green box 1: 1 ahead; wall: 2 ahead\n" in _say(episode, "go to green box 1")
    assert "You see: blue key 1: 1 ahead; wall: 2 ahead\n" in _say(episode, "toggle")
    assert _say(episode, "pick up blue key 1").endswith("You see: wall: 2 ahead\nYou carry: blue key")
    _say(episode, "turn right", "move forward", "turn right")
    assert episode.step("toggle and go through blue door 1") == Step(None, 1.0, done=True, truncated=False)


def test_things_are_numbered_nearest_first() -> None:
    user = _held_out("GoToRedBallGrey").messages[-1].content or ""
    assert user.startswith(
        "Goal: go to the red ball\nYou see: grey box 1: 3 left; grey key 1: 1 ahead, 2 left; "
        "grey ball 1: 2 ahead, 1 right; grey ball 2: 4 ahead; grey box 2: 2 ahead, 3 left; "
    )


@pytest.mark.parametrize(
    ("action", "note"),
    [
        ("", "That is no action. Reply with one action, such as: check available actions"),
        ("jump", "That is no action. Reply with one action, such as: check available actions"),
        ("go to", "That is no action. Reply with one action, such as: check available actions"),
        ("turn left, then right", "That is no action. Reply with one action, such as: check available actions"),
        ("<think>go to blue door 1", "That is no action. Reply with one action, such as: check available actions"),
        ("go to pink door 1", "You see no pink door 1."),
        ("go to blue door 2", "You see no blue door 2."),
        ("pick up blue door 1", "A door cannot be picked up."),
        ("go through blue door 1", "Blue door 1 is no open door."),
        ("toggle and go through blue door 1", "The door is locked. Carry a blue key to open it."),
        ("drop", "You carry nothing."),
        ("toggle", "There is nothing to toggle in front of you."),
        ("x" * 100_000, "The reply is longer than 20000 characters. Reply with one action."),
    ],
)
def test_what_cannot_be_done_is_answered_and_uses_up_a_turn(action: str, note: str) -> None:
    episode = _held_out("KeyInBox")
    same = f"{note}\n{episode.messages[-1].content}"
    if action.startswith("x"):
        same = note
    assert episode.step(action) == Step(same, 0.0, done=False, truncated=False)


def test_the_actions_that_can_be_tried_are_told_when_asked() -> None:
    episode = _held_out("KeyInBox")
    assert _say(episode, "check available actions").startswith(
        "You can: turn left; turn right; move forward; go to blue door 1; toggle and go through blue door 1; "
        "check available actions.\nGoal: "
    )
    assert "; go to green box 1; pick up green box 1; " in _say(episode, "turn right", "check available actions")
    assert "drop; " in _say(episode, "pick up green box 1", "check available actions")


@pytest.mark.parametrize(
    "reply",
    [
        "go to red ball 1",
        "Go To  RED ball 1\n",
        "go to red ball",
        "Action: go to red ball 1",
        "Thought:\nThe ball is ahead.\n\nAction:\ngo to red ball 1",
        "<think>Where is it?</think>go to red ball 1",
    ],
)
def test_an_action_is_read_in_many_dresses(reply: str) -> None:
    assert _held_out("GoToRedBallGrey").step(reply) == Step(None, 1.0, done=True, truncated=False)


def test_hands_hold_one_thing_and_need_room() -> None:
    episode = _held_out("BlockedUnlockPickup")
    _say(episode, "turn left", "pick up purple ball 1")
    assert _say(episode, "pick up purple ball 1").startswith("You see no purple ball 1.\n")
    assert _say(episode, "go to yellow door 1", "drop").startswith("There is no room in front of you.\n")
    assert _say(episode, "move forward").startswith("Something is in the way.\n")
    assert _say(episode, "toggle").startswith("The door is locked. Carry a yellow key to open it.\n")


def test_opening_the_doors_in_the_wrong_order_is_failed_for_good() -> None:
    episode = _held_out("OpenRedBlueDoorsDebug")
    assert (episode.messages[-1].content or "").startswith("Goal: open the red door, then open the blue door\n")
    _say(episode, "turn right", "turn right")
    step = episode.step("toggle and go through blue door 1")
    assert step == Step(None, 0.0, done=True, truncated=False)


def test_the_order_of_then_is_kept() -> None:
    episode = _held_out("OpenRedBlueDoorsDebug")
    step = episode.step("toggle and go through red door 1")
    assert (step.reward, step.done) == (0.0, False)


def test_twenty_turns_are_the_end() -> None:
    episode = _held_out("BossLevel")
    steps = [episode.step("turn left") for _ in range(20)]
    assert [step.done for step in steps] == [False] * 19 + [True]
    assert steps[-1] == Step(None, 0.0, done=True, truncated=True)
    with pytest.raises(InvalidInput, match="the episode is over"):
        episode.step("turn left")
    episode.close()


def test_another_environments_scenario_is_refused() -> None:
    with pytest.raises(InvalidInput, match="babyai-goto/train/1"):
        environments.load("babyai").open(ScenarioRef(environment="babyai-goto", split="train", seed=1))


@pytest.mark.parametrize("split", ["train", "validation", "held_out"])
def test_any_forty_seeds_in_a_row_are_one_of_each_level(split: str) -> None:
    assert Counter(_open(split, seed).type for seed in range(17, 57)) == dict.fromkeys(NAMES, 1)


@pytest.mark.parametrize("count", [2 * len(NAMES), pytest.param(COUNT, marks=pytest.mark.slow)])
def test_the_oracle_solves_everything(count: int) -> None:
    played = [_play(_open("held_out", seed), lambda episode: episode.oracle()) for seed in range(count)]
    assert [reward for reward, _ in played] == [1.0] * count
    assert sum(turns for _, turns in played) / count < 6.0


def test_doing_nothing_solves_nothing() -> None:
    idle = environments.load("babyai").idle
    assert [_play(_open("held_out", seed), lambda _: idle) for seed in range(40)] == [(0.0, 20)] * 40


def test_guessing_is_far_from_enough() -> None:
    chance, count = random.Random(0), 2 * len(NAMES)
    solved = sum(_play(_open("held_out", seed), lambda one: one.guess(chance))[0] for seed in range(count))
    assert 0.2 * count < solved < 0.45 * count


def test_the_same_actions_lead_to_the_same_everything_beside_other_episodes() -> None:
    said = random.Random(1)
    one, other = _held_out("SynthSeq"), _held_out("SynthSeq")
    for _ in range(20):
        action = one.guess(said)
        step = one.step(action)
        _held_out("SynthSeq", 1).step(action)
        assert other.step(action) == step
        if step.done:
            break


words = st.builds(
    " ".join,
    st.tuples(
        st.sampled_from(["go to", "pick up", "pickup", "go through", "toggle and go through"]),
        st.sampled_from(["red", "grey", "blue", "yellow", "green", "purple"]),
        st.sampled_from(["ball", "box", "key", "door"]),
        st.sampled_from(["", "1", "2", "999", "-1", "1" * 5000]),
    ),
)
plain = st.sampled_from(
    ["turn left", "turn right", "move forward", "drop", "toggle", "Action:", '{"action": 3}', "\x00"]
)


@given(st.integers(0, 39), st.lists(st.one_of(words, plain, st.text(max_size=40)), min_size=20, max_size=20))
def test_any_reply_is_a_step_and_the_oracle_is_never_at_a_loss_for_words(seed: int, replies: list[str]) -> None:
    episode, rewards, done = _open("train", seed), [], False
    for reply in replies:
        assert episode.oracle()
        observation, reward, done, truncated = episode.step(reply)
        rewards.append(reward)
        assert (observation is None) == done
        assert not (truncated and reward)
        if done:
            break
    assert done
    assert rewards[:-1] == [0.0] * (len(rewards) - 1)
    assert rewards[-1] in (0.0, 1.0)
