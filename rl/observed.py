"""What scoring reads out of a trajectory: money, kinds of actions, and how they turned out.

Sources keep a state's and an outcome's own names, such as ``agentPnL``. What is missing or no number is None, and
never a zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

from rl.records import Trajectory, Turn

TRADES = ("TRADING", "TRADE", "BUY", "SELL", "LONG", "SHORT", "PERP", "POSITION")
POSTS = ("POST", "COMMENT")
MESSAGES = ("MESSAGE", "REPLY")

Kind = Literal["trade", "post", "message", "other"]


@lru_cache(maxsize=4096)
def kind_of(action: str) -> Kind:
    """The kind of an action by parts of its name, such as ``BUY_SHARES`` or ``create_post``."""
    name = action.upper()
    if any(word in name for word in POSTS):
        return "post"
    if name == "DM" or name.startswith("DM_") or name.endswith("_DM") or any(word in name for word in MESSAGES):
        return "message"
    return "trade" if any(word in name for word in TRADES) else "other"


@lru_cache(maxsize=4096)
def opens_position(action: str) -> bool:
    """Whether the action buys, as ``BUY_SHARES``, ``OPEN_PERP`` or ``GO_LONG`` do."""
    return any(word in action.upper() for word in ("BUY", "LONG", "OPEN"))


def number(values: Mapping[str, Any], *names: str) -> float | None:
    """The first of the named values that is a finite number, also where it is written as text."""
    for name in names:
        value = values.get(name)
        if value.__class__ is float and math.isfinite(value):
            return float(value)
        if value is None or isinstance(value, bool):
            continue
        try:
            as_float = float(value)
        except (TypeError, ValueError, OverflowError):
            continue
        if math.isfinite(as_float):
            return as_float
    return None


def final_pnl(trajectory: Trajectory) -> float | None:
    """Profit or loss by the last turn's state, else by the metadata."""
    if trajectory.turns and (seen := number(trajectory.turns[-1].state, "agentPnL", "agent_pnl", "pnl")) is not None:
        return seen
    return number(trajectory.metadata, "finalPnL", "final_pnl")


def balances(trajectory: Trajectory) -> tuple[float, float] | None:
    """Money at the start and at the end; None where either is not known.

    The end is the last state's balance when it differs from the start's, else the start and the profit or loss.
    """
    states = [turn.state for turn in trajectory.turns] or [{}]
    start = number(states[0], "agentBalance", "agent_balance", "balance")
    if start is None:
        start = number(trajectory.metadata, "startingBalance", "starting_balance")
    end = number(states[-1], "agentBalance", "agent_balance", "balance")
    if end is None:
        end = number(trajectory.metadata, "finalBalance", "final_balance")
    if start is None:
        return None
    if end is None or end == start:
        profit = final_pnl(trajectory)
        end = end if profit is None else start + profit
    return None if end is None else (start, end)


def exposure(turn: Turn) -> float | None:
    """The share of the agent's money that was in positions, 0 to 1, as the state says it."""
    return number(turn.state, "exposure", "currentExposure", "exposurePct")


def right(turn: Turn) -> bool | None:
    """Whether the turn's prediction or trade turned out right; None while nobody knows."""
    outcome, asked = turn.outcome, turn.action.parameters if turn.action else {}
    for name in ("predictionCorrect", "perpCorrect", "prediction_correct", "perp_correct"):
        if isinstance(outcome.get(name), bool):
            return bool(outcome[name])
    side = str(asked.get("side", "")).upper()
    actual = str(outcome.get("actualOutcome", "")).upper()
    if side in ("YES", "NO") and actual in ("YES", "NO"):
        return side == actual
    change = number(outcome, "priceChange", "price_change", "changePercent")
    if side in ("LONG", "SHORT") and change is not None:
        return change > 0 if side == "LONG" else change < 0
    return None


def market_moved(turn: Turn) -> bool | None:
    """Whether the turn's market resolved, or moved by more than 1 per cent; None where nothing is known of it."""
    outcome = turn.outcome
    if (actual := outcome.get("actualOutcome")) is not None:
        return str(actual).upper() != "UNRESOLVED"
    if isinstance(outcome.get("predictionCorrect"), bool):
        return True
    change = number(outcome, "priceChange", "price_change", "changePercent")
    return None if change is None else abs(change) > 1
