from __future__ import annotations

from rl.config import digest
from rl.scoring import by_reward


def test_the_reward_is_the_score_and_says_so() -> None:
    assert by_reward("t1", 0.25) == {
        "trajectory_id": "t1",
        "method": "reward",
        "method_version": "1",
        "input_hash": digest("t1", 0.25),
        "score": 0.25,
        "explanation": "the reward of the episode",
    }


def test_another_reward_is_another_input() -> None:
    assert by_reward("t1", 0.25)["input_hash"] != by_reward("t1", 0.5)["input_hash"]
