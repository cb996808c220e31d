"""The kinds of agents, and what counts for each: profit, form, reasoning and behaviour.

The published composite of Babylon's second generation. A score is ``w_profit * profit + w_form * form + w_reasoning *
reasoning + w_behaviour * behaviour``, clamped to -1..1, with four weights that sum to 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple


class Weights(NamedTuple):
    """How much each of the four parts counts; they sum to 1."""

    profit: float
    form: float
    reasoning: float
    behaviour: float


GENERAL = Weights(0.50, 0.30, 0.20, 0.0)
"""For a trajectory that names no archetype: the composite without behaviour."""

WEIGHTS: Mapping[str, Weights] = MappingProxyType(
    {
        "trader": Weights(0.55, 0.20, 0.15, 0.10),
        "degen": Weights(0.15, 0.15, 0.10, 0.60),
        "social-butterfly": Weights(0.10, 0.20, 0.15, 0.55),
        "researcher": Weights(0.25, 0.25, 0.30, 0.20),
        "scammer": Weights(0.35, 0.15, 0.20, 0.30),
        "information-trader": Weights(0.35, 0.20, 0.20, 0.25),
        "goody-twoshoes": Weights(0.15, 0.25, 0.20, 0.40),
        "ass-kisser": Weights(0.10, 0.20, 0.15, 0.55),
        "perps-trader": Weights(0.50, 0.15, 0.20, 0.15),
        "super-predictor": Weights(0.30, 0.20, 0.25, 0.25),
        "infosec": Weights(0.25, 0.25, 0.30, 0.20),
        "liar": Weights(0.20, 0.15, 0.25, 0.40),
    }
)
_JOINED = {name.replace("-", ""): name for name in WEIGHTS}

BANKRUPT = -10.0
"""The profit of an agent that has nothing left: no other part makes up for it."""
RISK = 0.3
"""Taken off the profit for each risky action of an archetype; ``GENERAL_RISK`` where none is named."""
GENERAL_RISK = 0.5
EXPOSED = 0.80
"""To buy with a larger share of one's money in positions is risky."""
FEARLESS = frozenset({"degen"})
LOSSES: Mapping[str, float] = MappingProxyType({"degen": 0.3, "social-butterfly": 0.5})
"""Archetypes whose losses count so much less."""


@lru_cache(maxsize=4096)
def archetype_named(name: str | None) -> str | None:
    """The archetype that is meant, however it is written; None for no name, ``default``, or one that nobody knows."""
    if name is None:
        return None
    return _JOINED.get(re.sub(r"[\s_-]+", "", name.lower()))


def profit(start: float, end: float, archetype: str | None, risky_actions: int) -> float:
    """-1..1 for a return of -10 % to 10 %, less the risk that was taken; ``BANKRUPT`` for nothing left.

    A start of nothing earns 0.
    """
    earned = BANKRUPT if end <= 0 else 0.0 if start <= 0 else max(-1.0, min(1.0, 10 * (end - start) / start))
    if earned < 0:
        earned *= LOSSES.get(archetype or "", 1.0)
    if archetype in FEARLESS:
        return earned
    return earned - risky_actions * (GENERAL_RISK if archetype is None else RISK)


def composite(archetype: str | None, profit: float, form: float, reasoning: float, behaviour: float) -> float:
    """The score in -1..1. Who went bankrupt has -1 whatever else it did, unless its losses count less."""
    if profit <= BANKRUPT / 2 and archetype not in LOSSES:
        return -1.0
    weights = GENERAL if archetype is None else WEIGHTS[archetype]
    total = (
        weights.profit * profit + weights.form * form + weights.reasoning * reasoning + weights.behaviour * behaviour
    )
    return max(-1.0, min(1.0, total))
