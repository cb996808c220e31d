"""From what happened to the number used to train."""

from __future__ import annotations

from typing import Any

from rl.config import digest


def by_reward(trajectory_id: str, reward: float) -> dict[str, Any]:
    """The environment's own reward as the score: one row for the table of scores."""
    return {
        "trajectory_id": trajectory_id,
        "method": "reward",
        "method_version": "1",
        "input_hash": digest(trajectory_id, reward),
        "score": reward,
        "explanation": "the reward of the episode",
    }
