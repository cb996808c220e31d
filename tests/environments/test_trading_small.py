from __future__ import annotations

from collections import Counter
from itertools import product
from math import log
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from environments.contract import Step
from environments.dealing import digest_of, split_of
from environments.trading.maker import Side
from environments.trading.small import (
    DEPTH,
    HOURS,
    OPENINGS,
    REPLIES,
    SOURCES,
    Hour,
    TradingSmall,
    TradingSmallEpisode,
    _hour,
    key,
)
from rl.errors import InvalidInput
from rl.records import Message, ScenarioRef

ENVIRONMENT = TradingSmall()
SPLITS = ("train", "validation", "held_out")


def _open(split: str, seed: int) -> TradingSmallEpisode:
    ref = ScenarioRef.model_validate({"environment": "trading-small", "split": split, "seed": seed})
    episode = ENVIRONMENT.open(ref)
    assert isinstance(episode, TradingSmallEpisode)
    return episode


def _reward(episode: TradingSmallEpisode, replies: tuple[str, ...]) -> float:
    return sum(episode.step(reply).reward for reply in replies)


def test_a_transcript() -> None:
    episode = _open("held_out", 6)
    assert episode.type == "conflict"
    assert episode.messages == [
        Message(
            role="system",
            content="Each hour you may bet on a question. A report is right more often than a rumour. "
            "Reply buy yes, buy no or wait.",
        ),
        Message(role="user", content="Yes 50, no 50. Rumour yes. Report no."),
    ]
    assert episode.oracle() == "buy no"
    second = "You gain 47. Yes 43, no 57. Rumour no. Report no."
    assert episode.step("<think>no</think>Buy no.") == Step(second, 0.0, done=False, truncated=False)
    assert episode.step("Action: buy no") == Step(None, 1.0, done=True, truncated=False)
    with pytest.raises(InvalidInput, match="the episode is over"):
        episode.step("wait")


def test_gains_by_hand() -> None:
    hour = Hour(0, (("rumour", "no"), ("report", "yes")), "yes")
    # 400 ln((exp(100 / 400) + 1) / 2) = 53.12 dollars
    assert hour.gain("yes") == 10_000 - 5312
    assert hour.gain("no") == -5312
    assert hour.gain(None) == 0
    assert hour.best == "yes"
    assert Hour(0, (("rumour", "no"),), "no").best == "no"


def test_both_hours_are_needed() -> None:
    for seed in range(200):
        best = tuple(f"buy {hour.best}" for hour in _open("held_out", seed)._hours)
        for replies in product(REPLIES, repeat=HOURS):
            success = _reward(_open("held_out", seed), replies) >= ENVIRONMENT.success
            assert success is (replies == best)


@pytest.mark.parametrize(
    "reply", ["", "sell", "buy", "buy yes no", "x" * 100_000, "<think>buy yes", "\x00", "[" * 9999]
)
def test_what_is_no_reply_bets_nothing_and_takes_the_hour(reply: str) -> None:
    episode = _open("held_out", 6)
    observation = "Reply buy yes, buy no or wait. You gain 0. Yes 43, no 57. Rumour no. Report no."
    assert episode.step(reply) == Step(observation, 0.0, done=False, truncated=False)
    assert episode.step(reply) == Step(None, 0.0, done=True, truncated=False)


@given(reply=st.text())
def test_any_text_is_a_step(reply: str) -> None:
    assert not _open("train", 1).step(reply).done


@pytest.mark.parametrize("split", SPLITS)
def test_the_oracle_solves_every_scenario(split: str) -> None:
    for seed in range(200):
        episode = _open(split, seed)
        assert sum(episode.step(episode.oracle()).reward for _ in range(HOURS)) == 1.0


def test_neither_doing_nothing_nor_chance_nor_always_the_same_succeeds_but_believing_the_first_does() -> None:
    chance = Random(0)
    solved = dict.fromkeys((*REPLIES, "guess", "first"), 0)
    for seed in range(400):
        for reply in REPLIES:
            solved[reply] += _reward(_open("held_out", seed), (reply, reply)) >= ENVIRONMENT.success
        guess = _open("held_out", seed)
        replies = tuple(guess.guess(chance) for _ in range(HOURS))
        solved["guess"] += _reward(guess, replies) >= ENVIRONMENT.success
        first = _open("held_out", seed)
        replies = tuple(f"buy {hour.news[0][1]}" for hour in first._hours)
        solved["first"] += _reward(first, replies) >= ENVIRONMENT.success
    assert solved["first"] == 337
    assert solved["wait"] == 0
    assert 20 < solved["guess"] < 80  # 400 / 9 = 44
    assert solved["buy yes"] < 140
    assert solved["buy no"] < 140


def test_a_rumour_against_a_report_is_sometimes_right_elsewhere_but_never_decides() -> None:
    hours = [hour for seed in range(300) for hour in _open("train", seed)._hours]
    both = [dict(hour.news)["rumour"] == hour.truth for hour in hours if len(hour.news) == 2]
    assert (len(both), round(sum(both) / len(both), 2)) == (336, 0.64)
    assert all(hour.best == hour.truth for hour in hours)


def test_how_many_hours_are_dealt() -> None:
    chance = Random(0)
    hours = [_hour(chance) for _ in range(2000)]
    assert sum(hour.best != hour.truth for hour in hours) == 341


def test_splits_are_disjoint_by_content() -> None:
    hashes = {split: {_open(split, seed).content_hash for seed in range(400)} for split in SPLITS}
    assert len(set.union(*hashes.values())) == sum(len(found) for found in hashes.values())
    for split in SPLITS:
        assert {split_of(digest) for digest in hashes[split]} == {split}
        assert len(hashes[split]) > 380


def test_no_text_is_in_two_splits() -> None:
    """What both hours show is all that a scenario is, so that nobody can know a held-out one by heart."""
    texts: dict[str, set[tuple[str, str]]] = {}
    for split, count in zip(SPLITS, (2000, 600, 600), strict=True):
        episodes = [_open(split, seed) for seed in range(count)]
        told = {(episode._observe(0), episode._observe(1)) for episode in episodes}
        assert len(told) == len({episode.content_hash for episode in episodes}) > 0.9 * count
        texts[split] = told
    assert len(set.union(*texts.values())) == sum(map(len, texts.values()))


def test_there_are_enough_different_scenarios() -> None:
    both_sides: tuple[Side, Side] = ("yes", "no")
    news = [
        tuple(zip(sources, sides, strict=True))
        for sources in SOURCES
        for sides in product(both_sides, repeat=len(sources))
    ]
    leads = [round(DEPTH * log(cents / (100 - cents))) for cents in range(OPENINGS[0], OPENINGS[1] + 1)]
    hours = [Hour(lead, said, "yes") for lead in leads for said in news]
    right = [hour._replace(truth=hour.best) for hour in hours]
    sizes = Counter(split_of(digest_of(key(both))) for both in product(right, repeat=HOURS))
    assert sizes == {"train": 31920, "validation": 15693, "held_out": 15891}


def test_another_environments_scenario_is_refused() -> None:
    with pytest.raises(InvalidInput, match="trading/train/1"):
        ENVIRONMENT.open(ScenarioRef(environment="trading", split="train", seed=1))
