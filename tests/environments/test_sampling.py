from __future__ import annotations

from collections import Counter
from random import Random

import pytest

import environments
from environments.contract import Episode
from environments.episode import TextEnvironment, TextEpisode, Took
from environments.sampling import _numbers, samples
from rl.records import ScenarioRef
from rl.reward_lint import lint


class Stall(TextEnvironment):
    """Each turn without the answer is paid until 1 is reached, as the answer is: silence earns what solving does."""

    name, system, max_turns, max_tokens = "stall", "Add.", 8, 8

    def open(self, ref: ScenarioRef) -> Episode:
        return Sum(self, ref, "0" * 64, "2 + 2?", "sum")


class Sum(TextEpisode):
    paid = 0.0

    def _act(self, reply: str) -> Took:
        gain = min(1.0 if reply == "4" else 0.0 if reply else 0.25, 1.0 - self.paid)
        self.paid += gain
        return Took("2 + 2?", gain, over=bool(reply))

    def oracle(self) -> str:
        return "4"

    def guess(self, chance: Random) -> str:
        return chance.choice(("3", "5"))


class Honest(Stall):
    """The same reward, and a state that tells the answer from the reward."""

    def open(self, ref: ScenarioRef) -> Episode:
        return HonestSum(self, ref, "0" * 64, "2 + 2?", "sum")


class HonestSum(Sum):
    answered = False

    def _act(self, reply: str) -> Took:
        self.answered = reply == "4"
        return super()._act(reply)

    @property
    def solved(self) -> bool:
        return self.answered


def _ref(name: str, seed: int = 0) -> ScenarioRef:
    return ScenarioRef(environment=name, split="held_out", seed=seed)


def test_numbers_of_turns() -> None:
    assert _numbers(1) == []
    assert _numbers(3) == [1, 2]
    assert _numbers(9) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert _numbers(16) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert _numbers(60) == [1, 2, 3, 4, 5, 6, 7, 8, 16, 32]


def test_one_turn_leaves_the_expert_silence_and_three_guesses() -> None:
    found = samples(environments.load("sat-small"), _ref("sat-small"))
    assert [one.how for one in found] == ["the expert", "silent", *["by chance after 0 of the expert's turns"] * 3]
    assert [(one.kind, one.turns, one.reward) for one in found[:2]] == [("right", 1, 1.0), ("silent", 1, 0.0)]


def test_an_episode_is_sampled_from_all_its_beginnings() -> None:
    """Three turns: the expert, silence, and 3 guesses; after 1 and after 2 turns 6 more each.

    Those are a late expert, one that stops, a late guess, and 3 guesses after the expert's turns.
    """
    found = samples(environments.load("babyai-goto"), _ref("babyai-goto"))
    assert len(found) == 17
    ways = Counter(one.how for one in found)
    assert ways["the expert after 2 silent turns"] == ways["silent after 2 of the expert's turns"] == 1
    assert {ways[f"by chance after {turns} of the expert's turns"] for turns in range(3)} == {3}
    assert found[0].kind == "right"
    late = next(one for one in found if one.how == "the expert after 1 silent turns")
    assert late.turns == min(3, found[0].turns + 1)


def test_samples_are_the_same_each_time() -> None:
    first, again = (samples(environments.load("alfworld-small"), _ref("alfworld-small", 3)) for _ in range(2))
    assert first == again
    assert {one.scenario for one in first} == {"alfworld-small/held_out/3"}


def test_silence_is_silence_whatever_it_earns() -> None:
    found = samples(Stall(), _ref("stall"))
    silent = [one for one in found if one.how == "silent"]
    assert [(one.kind, one.turns, one.reward, one.passes) for one in silent] == [("silent", 8, 1.0, True)]
    tested = {one.rule: one for one in lint(found)}
    assert (tested["silent"].status, tested["answer"].status) == ("broken", "broken")


def test_a_verdict_of_the_state_finds_what_the_reward_hides() -> None:
    """By its reward, who says nothing for four turns and then what is wrong is right; by the state he is not."""
    by_reward, by_state = (samples(environment, _ref("stall")) for environment in (Stall(), Honest()))
    assert all(one.by_reward for one in by_reward)
    assert not any(one.by_reward for one in by_state)
    first, second = ({one.rule: one for one in lint(found)}["right"] for found in (by_reward, by_state))
    assert (first.status, first.by_construction) == ("holds", first.pairs)
    assert (second.status, second.by_construction) == ("broken", 0)
    assert second.fault is not None
    assert second.fault.worse.how == "by chance after 4 silent turns"


SOLVED = [
    "sat-small",
    "sat-compatible",
    "abd-small",
    "ded-small",
    "babyai",
    "babyai-goto",
    "textcraft-small",
    "alfworld-small",
    "webshop-small",
    "webshop-tools",
    "trading",
    "trading-small",
    pytest.param("memory", marks=pytest.mark.slow),
    "memory-small",
    "sat-small+textcraft-small",
]


@pytest.mark.parametrize("name", SOLVED)
def test_the_state_tells_what_the_reward_calls_a_success(name: str) -> None:
    """In every episode of a scenario; before it is played, nothing is solved."""
    environment = environments.load(name)
    episode = environment.open(_ref(name, 1))
    assert episode.solved is False
    episode.close()
    found = samples(environment, _ref(name, 1))
    assert found[0].kind == "right"
    assert {one.by_reward for one in found} == {False}
    assert [one for one in found if one.passes is not (one.kind == "right")] == []
