"""The reward that a published run of a memory agent was trained with, to compare and to warn: it pays for stalling.

Turn k counts from 0, of at most 8. A turn that thinks earns 0.05, and 0.05 more where the thought is longer than 512
characters, both times s(k) = 1 - 0.8 k / 4 up to k = 4 and 0.2 (1 - (k - 4) / 4) after. A turn of Python earns
0.15 max(0, 1 - 2 k / 8), and 0.20 more at k = 0 where it reads the user's file. The reply earns the judge's 0 or 1.
Each turn is clamped to [0, 1]; turn 8 costs 0.2 and ends the episode, whose reward is the sum.
"""

from __future__ import annotations

from rl.reward_lint import Sampled

MAX_TURNS = 8


def reward(python_turns: int, verdict: float | None) -> float:
    """An episode that thinks long in every turn, first reads the user's file, and replies after ``python_turns``.

    ``verdict`` is the judge's 1 or 0 on the reply, None where none came in 8 turns.
    """
    total = sum(min(_thought(turn) + _python(turn), 1.0) for turn in range(min(python_turns, MAX_TURNS)))
    if verdict is None:
        return total - 0.2
    return total + min(_thought(python_turns) + verdict, 1.0)


def _thought(turn: int) -> float:
    share = 1 - 0.8 * turn / 4 if turn <= 4 else 0.2 * (1 - (turn - 4) / 4)
    return 0.10 * share


def _python(turn: int) -> float:
    return 0.15 * max(0.0, 1 - 2 * turn / MAX_TURNS) + (0.20 if turn == 0 else 0.0)


def samples() -> list[Sampled]:
    """Every episode that differs in its turns of Python and its end."""
    found = [Sampled("published", "silent", MAX_TURNS, reward(MAX_TURNS, None), "never a reply")]
    for turns in range(MAX_TURNS):
        how = f"{turns} turns of Python, then the reply"
        found.append(Sampled("published", "right", turns + 1, reward(turns, 1.0), how))
        found.append(Sampled("published", "wrong", turns + 1, reward(turns, 0.0), how))
    return found
