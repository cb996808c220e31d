"""The published heuristics: a number for a trajectory from what was logged, without a judge.

===========  ============================================================================================
``agent``    of all trajectories of an agent: 0.5 profit + 0.3 win rate + 0.2 activity
``service``  0.5 trading + 0.2 social + 0.3 strategic, each 0.5 where there is nothing to look at
``archetype``  profit, form, reasoning and behaviour, weighed by the agent's archetype (``rl.archetypes``)
===========  ============================================================================================

Missing data is the neutral 0.5 only where a formula says so; otherwise there is no score. Equal trajectories have equal
scores: a difference made up to tell them apart would be trained on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rl import archetypes
from rl.archetypes import WEIGHTS, archetype_named
from rl.behaviour import bonus, counts_of
from rl.observed import balances, exposure, final_pnl, kind_of, market_moved, opens_position, right
from rl.reasoning import form_and_reasoning
from rl.records import Trajectory, Turn
from rl.scoring_config import Variant

VERSION = "1"
NEUTRAL = 0.5


class Scored(NamedTuple):
    """A score with the parts that it was made of."""

    score: float
    parts: Mapping[str, float]


class Unscored(NamedTuple):
    """No score, and why."""

    reason: str


def heuristic_scores(trajectories: Sequence[Trajectory], variant: Variant) -> list[Scored | Unscored]:
    """The score of each trajectory, in order. ``agent`` takes them to be all that their agents did in a window."""
    if variant == "agent":
        return _by_agent(trajectories)
    one = service if variant == "service" else archetype
    return [one(trajectory) for trajectory in trajectories]


def _by_agent(trajectories: Sequence[Trajectory]) -> list[Scored | Unscored]:
    profits = [final_pnl(one) for one in trajectories]
    known: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for one, earned in zip(trajectories, profits, strict=True):
        if earned is not None:
            known[one.agent_id].append((earned, sum(turn.action is not None for turn in one.turns)))
    scores = {agent_id: agent(*zip(*rows, strict=True)) for agent_id, rows in known.items()}
    missing = Unscored("neither the last state has agentPnL nor the metadata finalPnL")
    return [
        missing if earned is None else scores[one.agent_id] for one, earned in zip(trajectories, profits, strict=True)
    ]


def agent(profits: Sequence[float], actions: Sequence[int]) -> Scored:
    """The score of an agent from its trajectories' profits and numbers of actions [N] each; not for none at all.

    0.5 * clamp((sum of profits + 1000) / 2000) + 0.3 * (trajectories with a profit / with a profit or a loss; 0.5 for
    none) + 0.2 * min(1, actions / 20).
    """
    decided = sum(earned != 0 for earned in profits)
    parts = {
        "profit": _clamp((sum(profits) + 1000) / 2000),
        "win_rate": sum(earned > 0 for earned in profits) / decided if decided else NEUTRAL,
        "activity": min(1.0, sum(actions) / 20),
    }
    return Scored(0.5 * parts["profit"] + 0.3 * parts["win_rate"] + 0.2 * parts["activity"], parts)


def service(trajectory: Trajectory) -> Scored | Unscored:
    """0.5 trading + 0.2 social + 0.3 strategic.

    Trading is 0.4 profit + 0.4 win rate + 0.2 reward per trade, with rewards of -1..1 mapped to 0..1. Social is
    0.7 success + 0.3 min(1, posts / 10). Strategic is 0.6 times the share of trades with a reward above 0 + 0.4 times
    that of trades whose market resolved or moved by more than 1 %.
    """
    if not trajectory.turns:
        return Unscored("no turns: the source has calls alone")
    trades, posts = _of_kind(trajectory, "trade"), _of_kind(trajectory, "post")
    total = sum(turn.reward for turn in trajectory.turns)
    trading = (
        0.4 * _clamp((total + 1) / 2)
        + 0.4 * _share(right(turn) for turn in trades)
        + 0.2 * _clamp((total / len(trades) + 1) / 2)
        if trades
        else NEUTRAL
    )
    successes = sum(bool(turn.action and turn.action.success) for turn in posts)
    social = 0.7 * successes / len(posts) + 0.3 * min(1.0, len(posts) / 10) if posts else NEUTRAL
    strategic = (
        0.6 * _share(turn.reward > 0 for turn in trades) + 0.4 * _share(market_moved(turn) for turn in trades)
        if trades
        else NEUTRAL
    )
    parts = {"trading": trading, "social": social, "strategic": strategic}
    return Scored(0.5 * trading + 0.2 * social + 0.3 * strategic, parts)


def archetype(trajectory: Trajectory) -> Scored | Unscored:
    """The composite of the trajectory's archetype, -1..1; of all agents' where it names none."""
    name = archetype_named(trajectory.archetype)
    if name is None and trajectory.archetype not in (None, "", "default"):
        return Unscored(f"no weights for the archetype {trajectory.archetype!r:.80}; known: {', '.join(WEIGHTS)}")
    if (money := balances(trajectory)) is None:
        return Unscored("the balance at the start or at the end is not known: states need agentBalance")
    form, reasoning = form_and_reasoning(trajectory)
    parts = {
        "profit": archetypes.profit(*money, name, sum(map(_is_risky, trajectory.turns))),
        "form": form,
        "reasoning": reasoning,
        "behaviour": bonus(name, counts_of(trajectory)) if name else 0.0,
    }
    return Scored(archetypes.composite(name, **parts), parts)


def _is_risky(turn: Turn) -> bool:
    if turn.action is None or not opens_position(turn.action.kind):
        return False
    return (exposure(turn) or 0.0) > archetypes.EXPOSED


def _of_kind(trajectory: Trajectory, kind: str) -> list[Turn]:
    return [turn for turn in trajectory.turns if turn.action is not None and kind_of(turn.action.kind) == kind]


def _share(verdicts: Iterable[bool | None]) -> float:
    """The share of what is known to be so, of what is known; neutral where nothing is."""
    known = [verdict for verdict in verdicts if verdict is not None]
    return sum(known) / len(known) if known else NEUTRAL


def _clamp(value: float) -> float:
    return max(0.0, min(1.0, value))
