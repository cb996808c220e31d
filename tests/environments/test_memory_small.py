from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from environments.contract import Episode, Step
from environments.dealing import split_of
from environments.memory.small import MemorySmall
from rl.errors import InvalidInput
from rl.records import Message, ScenarioRef

SMALL = MemorySmall()
SPLITS = ("train", "validation", "held_out")


def _open(split: str, seed: int) -> Episode:
    return SMALL.open(ScenarioRef.model_validate({"environment": "memory-small", "split": split, "seed": seed}))


def _answer(text: str) -> str:
    """The value, as somebody finds it who has only the prompt."""
    *lines, question = text.split("\n")
    notes = dict(line.split(": ") for line in lines)
    *who, key = question.removesuffix("?").split()
    return notes[f"{who[0] if len(who) == 1 else notes[' '.join(who)]} {key}"]


def test_the_prompt_and_the_reply() -> None:
    episode = _open("held_out", 1)
    opening = (
        "Ben drink: juice\nAda pet: snake\nIda friend: Ben\nBen pet: goat\nAda drink: cocoa\nIda pet: duck\n"
        "Ben friend: Ada\nIda drink: lemonade\nBen friend drink?"
    )
    assert episode.messages == [
        Message(role="system", content="Answer from the notes in one word. Reply like <reply>blue</reply>."),
        Message(role="user", content=opening),
    ]
    assert (episode.type, episode.oracle()) == ("hops-1", "<reply>cocoa</reply>")
    assert episode.step("<reply>Cocoa.</reply>") == Step(None, 1.0, done=True, truncated=False)
    with pytest.raises(InvalidInput, match="over"):
        episode.step("<reply>cocoa</reply>")


@pytest.mark.parametrize("split", SPLITS)
def test_the_notes_hold_the_answer(split: str) -> None:
    for seed in range(200):
        episode = _open(split, seed)
        text = episode.messages[1].content or ""
        assert (len(text.split("\n")), episode.type) == (9, f"hops-{seed % 2}")
        assert episode.oracle() == f"<reply>{_answer(text)}</reply>"
        assert episode.step(episode.oracle()).reward == 1.0


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "cocoa",
        "<reply></reply>",
        "<reply>tea</reply>",
        "<reply>cocoa or juice</reply>",
        "<reply>cocoa tea</reply>",
        "<python>cocoa</python>",
        "<reply>cocoa</reply><reply>cocoa</reply>",
        "<reply>cocoa</reply>" + "x" * 100_000,
    ],
)
def test_wrong_replies(reply: str) -> None:
    assert _open("held_out", 1).step(reply) == Step(None, 0.0, done=True, truncated=False)


@given(reply=st.text())
def test_any_text_is_a_step(reply: str) -> None:
    assert _open("train", 0).step(reply).done


def test_what_a_guess_solves_of_300() -> None:
    chance = Random(0)
    episodes = [_open("held_out", seed) for seed in range(300)]
    assert 30 <= sum(episode.step(episode.guess(chance)).reward for episode in episodes) <= 80


def test_the_fact_of_whoever_is_named_is_right_where_no_friend_is_asked_for() -> None:
    solved = []
    for seed in range(200):
        episode = _open("held_out", seed)
        *lines, question = (episode.messages[1].content or "").split("\n")
        who, *_, key = question.rstrip("?").split()
        (value,) = (line.split(": ")[1] for line in lines if line.startswith(f"{who} {key}: "))
        solved.append(episode.step(f"<reply>{value}</reply>").reward)
    assert solved == [1.0, 0.0] * 100


def test_splits_are_disjoint_by_content() -> None:
    hashes = {split: {_open(split, seed).content_hash for seed in range(300)} for split in SPLITS}
    assert not hashes["train"] & hashes["validation"]
    assert not (hashes["train"] | hashes["validation"]) & hashes["held_out"]
    for split in SPLITS:
        assert {split_of(digest) for digest in hashes[split]} == {split}
        assert len(hashes[split]) == 300
