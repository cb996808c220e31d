from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from environments.abd import Abd, AbdEpisode, AbdSmall, reply_with
from environments.contract import Step
from environments.dealing import split_of
from rl.errors import InvalidInput
from rl.records import Message, ScenarioRef

WHOLE, SMALL = ENVIRONMENTS = [Abd(), AbdSmall()]
SPLITS = ("train", "validation", "held_out")
WRONG = Step(None, 0.0, done=True, truncated=False)

each = pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda environment: environment.name)


def _open(environment: Abd, split: str, seed: int) -> AbdEpisode:
    ref = ScenarioRef.model_validate({"environment": environment.name, "split": split, "seed": seed})
    episode = environment.open(ref)
    assert isinstance(episode, AbdEpisode)
    return episode


def _ask(program: str, output: str) -> AbdEpisode:
    """An episode that asks for this."""
    episode = _open(WHOLE, "train", 0)
    episode._program, episode._output = program, output
    return episode


def test_the_small_prompt_and_reply() -> None:
    episode = _open(SMALL, "held_out", 0)
    assert episode.messages == [
        Message(role="system", content="What input makes the program print the output? Reply like <INPUT>7</INPUT>."),
        Message(role="user", content='print("q" + input())\nOutput: qmoo'),
    ]
    assert episode.type == "begun"
    assert episode.oracle() == "<INPUT>moo</INPUT>"
    assert episode.ended_by == ""
    assert episode.step("<input>\nmoo \n</input>") == Step(None, 1.0, done=True, truncated=False)
    assert episode.ended_by == "ok"
    with pytest.raises(InvalidInput, match="the episode is over"):
        episode.step("<INPUT>moo</INPUT>")


def test_the_prompt_has_the_program_and_its_output() -> None:
    episode = _open(WHOLE, "held_out", 0)
    assert episode.type == "lists"
    assert (episode.messages[1].content or "").split("\n") == [
        "```python",
        "a = list(map(int, input().split()))",
        "p = [x * y for i, x in enumerate(a) for y in a[i + 1:] if x + y >= 34]",
        "print(len(p), max(p, default=0))",
        "```",
        "It printed:",
        "```",
        "6 361",
        "```",
    ]
    assert episode.oracle() == "<INPUT>5 19 19 17 19</INPUT>"


@pytest.mark.parametrize(
    ("program", "output", "reply", "reward"),
    [
        ("print(int(input()) % 7)", "3\n", "<INPUT>3</INPUT>", 1.0),
        ("print(int(input()) % 7)", "3\n", "<INPUT>10</INPUT>", 1.0),  # any input that leads there
        ("print(int(input()) % 7)", "3\n", "<INPUT>3</INPUT> or rather <INPUT>4</INPUT>", 0.0),
        ("print(int(input()) % 7)", "3\n", "3", 0.0),
        ("import sys\nprint(len(sys.stdin.read().split()))", "3\n", "<INPUT>1 2 3</INPUT>", 1.0),  # fewer than input()s
        ("print(sum(int(input()) for _ in range(2)))", "5\n", "<INPUT>2\n3</INPUT>", 1.0),
        ("print(sum(int(input()) for _ in range(2)))", "5\n", "<INPUT>5</INPUT>", 0.0),  # raises at the second
        ("print('a  \\n b')", "a\n b\n", "<INPUT></INPUT>", 1.0),
        ("import sys\nprint(input())\nsys.stderr.write('!')", "a\n", "<INPUT>a</INPUT>", 0.0),
        ("import sys\nprint(input())\nsys.exit(1)", "a\n", "<INPUT>a</INPUT>", 0.0),
    ],
)
def test_rewards_by_hand(program: str, output: str, reply: str, reward: float) -> None:
    assert _ask(program, output).step(reply) == Step(None, reward, done=True, truncated=False)


@pytest.mark.parametrize(
    ("given", "ended_by"),
    [("loop", "timeout"), ("much", "output"), ("large", "memory"), ("end", "killed"), ("", "error")],
)
def test_what_an_input_does_to_the_program_ends_its_run(given: str, ended_by: str) -> None:
    program = """
import os
k = input()
while k == "loop":
    pass
if k == "much":
    print("x" * 10_000_000)
if k == "large":
    bytearray(1 << 31)
if k == "end":
    os.kill(os.getpid(), 9)
print(1 // len(k))
"""
    episode = _ask(program, "0\n")
    assert episode.step(reply_with(given)) == WRONG
    assert episode.ended_by == ended_by


@pytest.mark.parametrize(
    "reply", ["", "\x00", "<INPUT>\x00\ud800</INPUT>", "{", "<think>", "Action: none", "Thought: a\nAction: b"]
)
def test_a_reply_that_is_no_answer_ends_the_episode(reply: str) -> None:
    assert _open(WHOLE, "held_out", 1).step(reply) == WRONG


def test_a_reply_that_is_too_long_is_not_read() -> None:
    episode = _open(SMALL, "held_out", 0)
    step = episode.step("x" * 100_000 + episode.oracle())
    assert (step.observation, step.reward, step.done) == (None, 0.0, True)
    assert episode.ended_by == ""


@given(text=st.text())
def test_any_text_is_a_step(text: str) -> None:
    assert _open(SMALL, "train", 1).step(text).done


@settings(max_examples=20, deadline=None)
@given(text=st.text())
def test_any_input_is_a_step(text: str) -> None:
    assert _open(WHOLE, "train", 3).step(f"<INPUT>{text}</INPUT>").done


@each
@pytest.mark.parametrize("split", SPLITS)
def test_the_oracle_solves_some_of_every_split(environment: Abd, split: str) -> None:
    for seed in range(12):
        episode = _open(environment, split, seed)
        assert episode.step(episode.oracle()) == Step(None, 1.0, done=True, truncated=False)


@pytest.mark.slow
@each
def test_the_oracle_solves_250_that_are_held_out(environment: Abd) -> None:
    for seed in range(250):
        episode = _open(environment, "held_out", seed)
        assert episode.step(episode.oracle()).reward == 1.0


@each
def test_few_guesses_are_right(environment: Abd) -> None:
    chance = Random(0)
    episodes = [_open(environment, "held_out", seed) for seed in range(30)]
    replies = [episode.guess(chance) for episode in episodes]
    rewards = [episode.step(reply).reward for episode, reply in zip(episodes, replies, strict=True)]
    assert sum(rewards) <= 3
    assert {episode.ended_by for episode in episodes} == {"ok"}  # a guess is an input that the program reads
    assert len(set(replies)) > 24


@each
def test_idle_is_no_success(environment: Abd) -> None:
    assert not any(_open(environment, "held_out", seed).step(environment.idle).reward for seed in range(100))


@each
def test_splits_are_disjoint_by_content(environment: Abd) -> None:
    sizes = {split: environment.collection().puzzles.size(split) for split in SPLITS}
    assert min(sizes.values()) >= 100
    hashes = {
        split: {_open(environment, split, seed).content_hash for seed in range(min(size, 300))}
        for split, size in sizes.items()
    }
    for split, found in hashes.items():
        assert {split_of(digest) for digest in found} == {split}
        assert len(found) == min(sizes[split], 300)
    assert len(set.union(*hashes.values())) == sum(map(len, hashes.values()))


@pytest.mark.slow
@each
def test_300_of_each_split_are_disjoint_by_content(environment: Abd) -> None:
    hashes = {split: {_open(environment, split, seed).content_hash for seed in range(300)} for split in SPLITS}
    for split, found in hashes.items():
        assert {split_of(digest) for digest in found} == {split}
    assert len(set.union(*hashes.values())) == sum(map(len, hashes.values()))


@each
def test_there_are_scenarios_beyond_those_of_the_file(environment: Abd) -> None:
    seed = environment.collection().puzzles.size("held_out") + 5
    first, second = (_open(environment, "held_out", seed) for _ in range(2))
    assert environment.scenarios("held_out") is None
    assert first.messages == second.messages
    assert first.content_hash == second.content_hash
    assert split_of(first.content_hash) == "held_out"
    assert first.step(first.oracle()).reward == 1.0


@each
def test_a_scenario_is_the_same_each_time(environment: Abd) -> None:
    first, second = (_open(environment, "train", 7) for _ in range(2))
    assert first.messages == second.messages
    assert first.content_hash == second.content_hash
    assert [first.guess(Random(seed)) for seed in range(5)] == [second.guess(Random(seed)) for seed in range(5)]
    reply = first.guess(Random(0))
    assert first.step(reply) == second.step(reply)


def test_small_prompts_are_short() -> None:
    for seed in range(150):
        episode = _open(SMALL, "train", seed)
        assert len(" ".join(message.content or "" for message in episode.messages).split()) < 40
        assert len(episode.oracle()) < 30


def test_another_environments_scenario_is_refused() -> None:
    with pytest.raises(InvalidInput, match="abd/train/1"):
        SMALL.open(ScenarioRef(environment="abd", split="train", seed=1))


def test_limits_are_declared() -> None:
    assert (WHOLE.max_turns, WHOLE.blocks, WHOLE.idle, SMALL.max_turns) == (1, True, "", 1)
