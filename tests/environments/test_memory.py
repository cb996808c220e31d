from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from environments import sandbox
from environments.contract import Step
from environments.dealing import split_of
from environments.memory.environment import KINDS, Memory, MemoryEpisode
from environments.memory.running import Files, Turn, digest
from environments.sandbox import probe
from rl.errors import InvalidInput, SandboxUnavailable
from rl.records import ScenarioRef

SPLITS = ("train", "validation", "held_out")
TYPES = {
    "retrieval-0 retrieval-1 retrieval-2 update-change update-add update-new update-forget clarify-entity",
    "clarify-attribute clarify-contradiction filter-all filter-part filter-none",
}


def run_here(files: Files, code: str) -> Turn:
    """What the sandbox does with code of the oracle or of a guess, in this process."""
    left = dict(files)

    def read_file(path: str) -> str:
        return left[path.encode()].decode()

    def update_file(path: str, old: str, new: str) -> None:
        assert read_file(path).count(old) == 1
        left[path.encode()] = read_file(path).replace(old, new).encode()

    def create_file(path: str, content: str) -> None:
        assert path.encode() not in left
        left[path.encode()] = content.encode()

    names: dict[str, Any] = {"read_file": read_file, "update_file": update_file, "create_file": create_file}
    exec(code, {**names, "go_to_link": lambda link: read_file(link[2:-2])})  # noqa: S102 - what plans and guesses hold
    return Turn(left, "<result>\n{}\n</result>")


class MemoryHere(Memory):
    run = staticmethod(run_here)


HERE, REAL = MemoryHere(), Memory()


def _open(split: str, seed: int, environment: Memory = HERE) -> MemoryEpisode:
    episode = environment.open(ScenarioRef.model_validate({"environment": "memory", "split": split, "seed": seed}))
    assert isinstance(episode, MemoryEpisode)
    return episode


def _needs_sandbox() -> None:
    try:
        sandbox.level()
    except SandboxUnavailable as error:
        pytest.skip(str(error))


def _play(episode: MemoryEpisode, choose: Callable[[], str]) -> tuple[float, int, bool]:
    """Sum of rewards, turns, and whether it was truncated."""
    reward, turns = 0.0, 0
    while True:
        step = episode.step(choose())
        reward, turns = reward + step.reward, turns + 1
        if step.done:
            return reward, turns, step.truncated


def test_the_opening() -> None:
    episode = _open("held_out", 3)
    system, user = episode.messages
    assert "You have 8 turns." in (system.content or "")
    assert (
        user.content
        == "What is my tutor's instrument?\n<filter>\nDo not tell the instrument of anyone or anything.\n</filter>"
    )
    assert {_open("held_out", seed).type for seed in range(len(KINDS))} == set(" ".join(TYPES).split())


@pytest.mark.parametrize("split", SPLITS)
def test_the_oracle_solves_every_scenario_in_four_turns(split: str) -> None:
    for seed in range(8 * len(KINDS)):
        episode = _open(split, seed)
        reward, turns, truncated = _play(episode, episode.oracle)
        assert (reward, truncated) == (1.0, False)
        assert turns <= 4
        assert (episode.before == episode.after) is not episode.type.startswith("update")


@pytest.mark.parametrize("seed", range(len(KINDS)))
def test_the_oracle_in_the_sandbox(seed: int) -> None:
    _needs_sandbox()
    episode, here = _open("held_out", seed, REAL), _open("held_out", seed)
    assert _play(episode, episode.oracle) == _play(here, here.oracle)
    assert (episode.before, episode.after) == (here.before, here.after)


def test_the_oracle_finishes_what_somebody_else_began() -> None:
    for seed in range(78):
        episode, chance = _open("train", seed), Random(seed)
        for _ in range(5):
            path = chance.choice(list(episode._task.before))
            assert not episode.step(f'<python>text = read_file("{path}")</python>').done
        assert _play(episode, episode.oracle)[0] == 1.0


def test_what_a_guess_solves() -> None:
    chance = Random(0)
    episodes = [_open("held_out", seed) for seed in range(260)]
    assert sum(_play(episode, partial(episode.guess, chance))[0] for episode in episodes) <= 8


def test_doing_nothing_uses_up_the_turns() -> None:
    for seed in range(13):
        assert _play(_open("held_out", seed), lambda: HERE.idle) == (0.0, 8, True)


@pytest.mark.parametrize("reply", ["Done.", "I do not know. What is it?", "I may not tell the phone number."])
def test_one_reply_for_everything_solves_next_to_nothing(reply: str) -> None:
    episodes = [_open("train", seed) for seed in range(260)]
    solved = [episode.type for episode in episodes if episode.step(f"<reply>{reply}</reply>").reward]
    assert set(solved) <= {"filter-all"}
    assert len(solved) <= 8


def _everything(episode: MemoryEpisode) -> str:
    return "\n".join(episode._task.before.values())


def _echo(episode: MemoryEpisode) -> str:
    return episode._task.request


@pytest.mark.parametrize("say", [_everything, lambda episode: episode._task.before["user.md"], _echo])
@pytest.mark.parametrize("tail", ["", " I do not know. Which is right?"])
def test_saying_all_or_the_question_solves_nothing(say: Callable[[MemoryEpisode], str], tail: str) -> None:
    for seed in range(130):
        episode = _open("train", seed)
        assert episode.step(f"<reply>{say(episode)}{tail}</reply>").reward == 0.0


def test_a_right_reply_after_a_change_of_the_memory_is_wrong() -> None:
    for seed in (0, 3, 4, 6, 10):
        episode = _open("held_out", seed)
        episode.step("<python>create_file('notes.md', 'x')</python>")
        assert episode.after != episode.before
        assert _play(episode, episode.oracle)[0] == 0.0


def test_an_update_with_another_change_is_wrong() -> None:
    for seed in (1, 5, 9, 12):
        episode = _open("held_out", seed)
        for reply in episode._task.plan[:-1]:
            episode.step(reply)
        episode.step("<python>create_file('notes.md', 'x')</python>")
        assert episode.step(episode.oracle()).reward == 0.0


def test_remarks_use_up_turns() -> None:
    episode = _open("held_out", 0)
    assert "not both" in (episode.step("<python>x = 1</python><reply>done</reply>").observation or "")
    assert "There is no <python>" in (episode.step("").observation or "")
    assert "longer than 20000 characters" in (episode.step("x" * 100_000).observation or "")
    for _ in range(4):
        assert not episode.step("\0").done
    assert episode.step('{"a":') == Step(None, 0.0, done=True, truncated=True)
    with pytest.raises(InvalidInput, match="over"):
        episode.step("")


def test_episodes_do_not_touch_each_other() -> None:
    one, other = _open("train", 1), _open("train", 1)
    assert (one.content_hash, one.messages, one.before) == (other.content_hash, other.messages, other.before)
    one.step("<python>create_file('notes.md', 'x')</python>")
    assert other.after == other.before == digest(other.files) != one.after
    assert _play(other, other.oracle)[0] == 1.0
    one.close()
    one.close()


@given(reply=st.text() | st.text().map(lambda text: f"<reply>{text}</reply>") | st.just("<python>" * 2500))
def test_any_text_is_a_step(reply: str) -> None:
    step = _open("train", 0).step(reply)
    assert step.reward == 0.0
    assert step.done is (step.observation is None)


def test_threads_play_at_once() -> None:
    _needs_sandbox()
    episodes = [_open("train", 1, REAL) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        played = list(pool.map(lambda episode: _play(episode, episode.oracle), episodes))
    assert played == [(1.0, len(episodes[0]._task.plan), False)] * 4


@pytest.mark.parametrize("code", ["\0", "x = '\ud800'", "while", "raise SystemExit('x')", "x" * 19_000])
def test_hostile_code_is_a_step(code: str) -> None:
    _needs_sandbox()
    step = _open("train", 0, REAL).step(f"<python>{code}</python>")
    assert (step.observation or "").startswith("<result>\n")


def test_code_is_refused_where_no_sandbox_is_safe_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise SandboxUnavailable("not here")

    monkeypatch.setattr(probe, "site", refuse)
    with pytest.raises(SandboxUnavailable):
        _open("train", 0, REAL).step("<python>x = 1</python>")


def test_another_environment_is_refused() -> None:
    with pytest.raises(InvalidInput, match="load"):
        HERE.open(ScenarioRef(environment="memory-small", split="train", seed=0))


def test_splits_are_disjoint_by_content() -> None:
    hashes = {split: {_open(split, seed).content_hash for seed in range(130)} for split in SPLITS}
    assert not hashes["train"] & hashes["validation"]
    assert not (hashes["train"] | hashes["validation"]) & hashes["held_out"]
    for split in SPLITS:
        assert {split_of(digest) for digest in hashes[split]} == {split}
        assert len(hashes[split]) == 130
