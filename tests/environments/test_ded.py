from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from environments import sandbox
from environments.contract import Step
from environments.dealing import split_of
from environments.ded import Ded, DedEpisode, DedSmall
from environments.programs import judging
from rl.errors import InvalidInput
from rl.records import Message, ScenarioRef

WHOLE, SMALL = ENVIRONMENTS = [Ded(), DedSmall()]
SPLITS = ("train", "validation", "held_out")
RIGHT = Step(None, 1.0, done=True, truncated=False)
WRONG = Step(None, 0.0, done=True, truncated=False)

each = pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda environment: environment.name)


def _open(environment: Ded, split: str, seed: int) -> DedEpisode:
    ref = ScenarioRef.model_validate({"environment": environment.name, "split": split, "seed": seed})
    episode = environment.open(ref)
    assert isinstance(episode, DedEpisode)
    return episode


def test_the_small_prompt_and_reply() -> None:
    episode = _open(SMALL, "held_out", 0)
    assert episode.messages == [
        Message(
            role="system",
            content="Write one line of Python that reads input() and prints. Reply with the line only.",
        ),
        Message(role="user", content="Read n. Print n * n + 47.\n12 -> 191\n14 -> 243"),
    ]
    assert episode.type == "squared"
    assert episode.oracle() == "print(int(input()) ** 2 + 47)"
    assert (episode.passed, episode.total, episode.ended_by) == (0, 6, "")
    assert episode.step("n = int(input())\nprint(47 + n * n)") == RIGHT
    assert (episode.passed, episode.total, episode.ended_by) == (6, 6, "ok")
    with pytest.raises(InvalidInput, match="the episode is over"):
        episode.step("")


def test_the_prompt_has_the_task_and_two_examples() -> None:
    episode = _open(WHOLE, "held_out", 0)
    text = episode.messages[1].content or ""
    assert episode.type == "grids"
    assert text.startswith("Read a map of '#' and '.', one row a line. Signs '#' that touch at a side or a corner")
    assert text.count("\n\nInput:\n```\n") == text.count("\nOutput:\n```\n") == 2
    assert text.endswith("Output:\n```\n3\n9 3\n```")
    assert episode.oracle().startswith("```python\nimport sys\n")


def test_examples_are_not_among_the_tests() -> None:
    for seed in range(30):
        episode = _open(WHOLE, "train", seed)
        shown = episode.messages[1].content or ""
        assert not any(f"Input:\n```\n{case.given}```" in shown for case in episode._cases)


@pytest.mark.parametrize(
    ("reply", "reward", "passed", "ended_by"),
    [
        ("print(int(input()) ** 2 + 47)", 1.0, 6, "ok"),
        ("<think>simple</think>\n```python\nprint(int(input()) ** 2 + 47)\n```\nThat is it.", 1.0, 6, "ok"),
        ("print(int(input()) * 47)", 0.0, 0, "ok"),
        ("n = int(input())\nprint(n * n + 47 if n != 7 else 0)", 1.0, 6, "ok"),  # 7 is not among the tests
        ("print(191)", 0.0, 0, "ok"),
        ("print('x' * 1_000_000)", 0.0, 0, "output"),
        ("import os\nos._exit(3)", 0.0, 0, "error"),
        ("print(", 0.0, 0, "error"),
        ("bytearray(1 << 32)", 0.0, 0, "memory"),
        ("```python\n```", 0.0, 0, ""),
        ("", 0.0, 0, ""),
    ],
)
def test_rewards_by_hand(reply: str, reward: float, passed: int, ended_by: str) -> None:
    episode = _open(SMALL, "held_out", 0)
    assert 7 not in [int(case.given) for case in episode._cases]
    assert episode.step(reply) == Step(None, reward, done=True, truncated=False)
    assert (episode.passed, episode.total, episode.ended_by) == (passed, 6, ended_by)


def test_all_but_one_test_is_not_enough() -> None:
    episode = _open(SMALL, "held_out", 0)
    last = int(episode._cases[-1].given)
    assert episode.step(f"n = int(input())\nprint(n * n + 47 if n != {last} else 0)") == WRONG
    assert (episode.passed, episode.total) == (5, 6)


def test_a_program_without_end_is_ended_at_the_first_test() -> None:
    episode = _open(SMALL, "held_out", 0)
    assert episode.step("while True: pass") == WRONG
    assert (episode.passed, episode.total, episode.ended_by) == (0, 6, "timeout")


def test_all_tests_take_one_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    launches: list[int] = []
    real = sandbox.run_each

    def counted(program: str, inputs: list[str], **named: Any) -> list[sandbox.Ran]:
        launches.append(len(inputs))
        return real(program, inputs, **named)

    monkeypatch.setattr(sandbox, "run_each", counted)
    episode = _open(WHOLE, "held_out", 2)
    assert episode.step(episode.oracle()) == RIGHT
    assert launches == [6]


@pytest.mark.parametrize("reply", ["\x00", "\ud800", "{", "<think>", "Action: none", "Thought: a\nAction: b"])
def test_a_reply_that_is_no_program_ends_the_episode(reply: str) -> None:
    assert _open(WHOLE, "held_out", 1).step(reply) == WRONG


def test_a_reply_that_is_too_long_is_not_read() -> None:
    episode = _open(SMALL, "held_out", 0)
    step = episode.step("#" * 100_000 + "\n" + episode.oracle())
    assert (step.observation, step.reward, step.done) == (None, 0.0, True)
    assert episode.ended_by == ""


@settings(max_examples=15, deadline=None)
@given(text=st.text())
def test_any_text_is_a_step(text: str) -> None:
    assert _open(SMALL, "train", 1).step(text).done


@each
@pytest.mark.parametrize("split", SPLITS)
def test_the_oracle_solves_some_of_every_split(environment: Ded, split: str) -> None:
    for seed in range(8):
        episode = _open(environment, split, seed)
        assert episode.step(episode.oracle()) == RIGHT


@pytest.mark.slow
@each
def test_the_oracle_solves_250_that_are_held_out(environment: Ded) -> None:
    for seed in range(250):
        episode = _open(environment, "held_out", seed)
        assert episode.step(episode.oracle()) == RIGHT


@each
def test_hardly_any_guess_is_right(environment: Ded) -> None:
    chance = Random(0)
    episodes = [_open(environment, "held_out", seed) for seed in range(20)]
    replies = [episode.guess(chance) for episode in episodes]
    rewards = [episode.step(reply).reward for episode, reply in zip(episodes, replies, strict=True)]
    assert sum(rewards) <= 1
    assert len(set(replies)) > 16


@each
def test_the_output_of_an_example_is_no_answer(environment: Ded) -> None:
    for seed in range(60):
        episode = _open(environment, "held_out", seed)
        outputs = [judging.lines_of(case.accepted[0]) for case in episode._cases]
        assert max(map(outputs.count, outputs)) < len(outputs)  # no single output passes


@each
def test_splits_are_disjoint_by_content(environment: Ded) -> None:
    sizes = {split: environment.collection().problems.size(split) for split in SPLITS}
    assert min(sizes.values()) >= 50
    hashes = {
        split: {_open(environment, split, seed).content_hash for seed in range(size)} for split, size in sizes.items()
    }
    for split, found in hashes.items():
        assert {split_of(digest) for digest in found} == {split}
        assert len(found) == sizes[split]
    assert len(set.union(*hashes.values())) == sum(sizes.values())


@pytest.mark.slow
@each
def test_300_of_each_split_are_disjoint_by_content(environment: Ded) -> None:
    hashes = {split: {_open(environment, split, seed).content_hash for seed in range(300)} for split in SPLITS}
    for split, found in hashes.items():
        assert {split_of(digest) for digest in found} == {split}
    assert len(set.union(*hashes.values())) == sum(map(len, hashes.values()))


@each
def test_there_are_scenarios_beyond_those_of_the_file(environment: Ded) -> None:
    seed = environment.collection().problems.size("held_out") + 5
    first, second = (_open(environment, "held_out", seed) for _ in range(2))
    assert environment.scenarios("held_out") is None
    assert first.messages == second.messages
    assert first.content_hash == second.content_hash
    assert split_of(first.content_hash) == "held_out"
    assert first.step(first.oracle()) == RIGHT


@each
def test_a_scenario_is_the_same_each_time(environment: Ded) -> None:
    first, second = (_open(environment, "train", 7) for _ in range(2))
    assert first.messages == second.messages
    assert first.content_hash == second.content_hash
    assert [first.guess(Random(seed)) for seed in range(5)] == [second.guess(Random(seed)) for seed in range(5)]


def test_small_prompts_are_short() -> None:
    for seed in range(150):
        episode = _open(SMALL, "train", seed)
        assert len(" ".join(message.content or "" for message in episode.messages).split()) < 40
        assert len(episode.oracle()) < 50


def test_another_environments_scenario_is_refused() -> None:
    with pytest.raises(InvalidInput, match="ded/train/1"):
        SMALL.open(ScenarioRef(environment="ded", split="train", seed=1))
