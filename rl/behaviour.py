"""What an agent did, counted, and how well that fits its archetype: the published thresholds, as data.

A bonus is a sum of steps. Each step looks at one or more counts, and the first of its rungs that holds is added; the
sum is clamped to -0.5..0.5. A count that the source does not have adds nothing.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from itertools import pairwise
from types import MappingProxyType

from rl.observed import final_pnl, kind_of, number, right
from rl.records import Trajectory, Turn

Counts = Mapping[str, float]
Rung = tuple[Callable[[float], bool], float]
MOST = 0.5


def _at_least(*rungs: tuple[float, float]) -> list[Rung]:
    return [(partial(operator.le, least), bonus) for least, bonus in rungs]


def _above(*rungs: tuple[float, float]) -> list[Rung]:
    return [(partial(operator.lt, limit), bonus) for limit, bonus in rungs]


def _below(*rungs: tuple[float, float]) -> list[Rung]:
    return [(partial(operator.gt, limit), bonus) for limit, bonus in rungs]


def _at_most(*rungs: tuple[float, float]) -> list[Rung]:
    return [(partial(operator.ge, limit), bonus) for limit, bonus in rungs]


class Step:
    """The first rung that holds for the count ``name``, where every count of ``given`` is at least so much."""

    def __init__(self, name: str, *rungs: list[Rung], given: Mapping[str, float] | None = None) -> None:
        self.name, self.rungs, self.given = name, [rung for several in rungs for rung in several], given or {}

    def bonus(self, counts: Counts) -> float:
        value = counts.get(self.name)
        if value is None:
            return 0.0
        for name, least in self.given.items():
            if counts.get(name, -1.0) < least:
                return 0.0
        for holds, bonus in self.rungs:
            if holds(value):
                return bonus
        return 0.0


STEPS: Mapping[str, tuple[Step, ...]] = MappingProxyType(
    {
        "degen": (
            Step("trades", _at_least((20, 0.20), (10, 0.15), (5, 0.08)), _below((2, -0.15))),
            Step("pnl_variance", _above((500, 0.15), (100, 0.08))),
            Step("position", _above((500, 0.10), (200, 0.05))),
            Step("largest_move", _above((100, 0.05))),
        ),
        "social-butterfly": (
            Step("contacts", _at_least((15, 0.20), (8, 0.12), (3, 0.06)), _below((2, -0.15))),
            Step("groups", _at_least((5, 0.15), (2, 0.08))),
            Step("messages", _at_least((10, 0.10), (3, 0.05))),
            Step("posts_and_comments", _at_least((10, 0.08), (3, 0.04))),
            Step("social_per_trade", _below((0.5, -0.10)), given={"trades": 6}),
        ),
        "scammer": (
            Step("contacts", _at_least((5, 0.10)), _below((2, -0.20))),
            Step("messages", _at_least((5, 0.10), (2, 0.05))),
            Step("pnl", _above((0, 0.15)), _at_most((0, -0.15))),
            Step("reputation", _above((0, 0.10)), _below((-20, -0.10))),
        ),
        "trader": (
            Step("win_rate", _at_least((0.60, 0.15), (0.50, 0.08))),
            Step("win_rate", _below((0.40, -0.10)), given={"trades": 5}),
            Step("markets", _at_least((4, 0.10), (2, 0.05))),
            Step("social_per_trade", _above((1.0, -0.10))),
            Step("trades", _at_least((5, 0.05))),
        ),
        "researcher": (
            Step("research", _at_least((10, 0.20), (5, 0.12), (2, 0.06)), _at_most((0, -0.15))),
            Step("accuracy", _at_least((0.7, 0.20), (0.5, 0.10))),
            Step("win_rate_of_few", _at_least((0.60, 0.10))),
        ),
        "information-trader": (
            Step("social_per_trade", _above((3.0, -0.10), (1.5, 0.0)), _at_least((0.5, 0.15))),
            Step("social_per_trade", _below((0.2, -0.10)), given={"trades": 4}),
            Step("groups", _at_least((3, 0.10))),
            Step("messages", _at_least((3, 0.08))),
            Step("requests", _at_least((3, 0.08))),
            Step("pnl", _above((0, 0.10))),
        ),
        "goody-twoshoes": (
            Step("reputation", _at_least((30, 0.25), (10, 0.15), (0, 0.05)), _below((0, -0.15))),
            Step("shared", _at_least((5, 0.12), (2, 0.06))),
            Step("reactions", _at_least((10, 0.10), (3, 0.05))),
            Step("followers", _at_least((5, 0.08))),
        ),
        "ass-kisser": (
            Step("reputation", _at_least((50, 0.30), (20, 0.20), (5, 0.10)), _below((0, -0.20))),
            Step("followers", _at_least((10, 0.15), (3, 0.08))),
            Step("comments", _at_least((10, 0.08), (5, 0.04))),
            Step("messages", _at_least((5, 0.05))),
        ),
        "perps-trader": (
            Step("win_rate", _at_least((0.55, 0.15))),
            Step("win_rate", _below((0.40, -0.15)), given={"trades": 5}),
            Step("trades", _at_least((10, 0.10), (5, 0.05)), _below((2, -0.10))),
            Step("pnl_variance", _above((1000, -0.10))),
            Step("pnl", _above((0, 0.10)), _below((-200, -0.15))),
        ),
        "super-predictor": (
            Step("accuracy", _at_least((0.75, 0.30), (0.60, 0.18), (0.50, 0.08))),
            Step("accuracy", _below((0.45, -0.20)), given={"predictions": 5}),
            Step("research", _at_least((3, 0.08))),
            Step("predictions", _at_least((5, 0.08)), _at_most((0, -0.15))),
            Step("pnl", _above((0, 0.08)), given={"accuracy": 0.55}),
        ),
        "infosec": (
            Step("shared", _at_most((1, 0.15)), _at_least((5, -0.10))),
            Step("largest_loss", _above((-50, 0.15)), _below((-200, -0.15))),
            Step("research", _at_least((3, 0.10))),
            Step("pnl_variance", _below((100, 0.10))),
            Step("messages", _below((3, 0.05))),
        ),
        "liar": (
            Step("spread", _at_least((10, 0.20), (3, 0.10))),
            Step("contacts", _at_least((8, 0.12), (3, 0.06)), _below((2, -0.15))),
            Step("reputation", _at_least((0, 0.15)), _below((-20, -0.15))),
            Step("posts", _at_least((5, 0.08), (2, 0.04))),
        ),
    }
)


def bonus(archetype: str | None, counts: Counts) -> float:
    """How well the counts fit the archetype, -0.5 to 0.5; 0 where none is named."""
    total = sum(step.bonus(counts) for step in STEPS.get(archetype or "", ()))
    return max(-MOST, min(MOST, total))


REPORTED = {
    "reputation": "reputationDelta",
    "followers": "followersGained",
    "reactions": "positiveReactions",
    "spread": "informationSpread",
}
"""Counts that only the source can know: our name, and the metadata's."""


def counts_of(trajectory: Trajectory) -> dict[str, float]:
    """What the trajectory's turns say of the agent's behaviour. Without turns there is nothing to count."""
    if not trajectory.turns:
        return {}
    counts = _actions(trajectory) | _money(trajectory) | _predictions(trajectory)
    for name, theirs in REPORTED.items():
        if (value := number(trajectory.metadata, theirs)) is not None:
            counts[name] = value
    return counts


def _actions(trajectory: Trajectory) -> dict[str, float]:
    names = ("trades", "posts", "comments", "messages", "research", "requests", "shared")
    counts = dict.fromkeys(names, 0.0)
    contacts: set[str] = set()
    groups: set[str] = set()
    markets: set[str] = set()
    sizes: list[float] = []
    for turn in trajectory.turns:
        if turn.action is None:
            continue
        action, asked = turn.action.kind.upper(), turn.action.parameters
        kind = kind_of(action)
        if kind == "trade":
            counts["trades"] += 1
            markets |= _named(asked, "marketId", "ticker")
            if (size := number(asked, "amount", "size", "quantity")) is not None:
                sizes.append(abs(size))
        elif kind == "post":
            counts["comments" if "COMMENT" in action else "posts"] += 1
        elif kind == "message":
            counts["messages"] += 1
        for name in _also(action):
            counts[name] += 1
        if kind != "trade":
            contacts |= _named(asked, "userId", "recipientId", "targetUserId")
            groups |= _named(asked, "groupId", "groupChatId")
    social = counts["posts"] + counts["comments"] + counts["messages"]
    return counts | {
        "posts_and_comments": counts["posts"] + counts["comments"],
        "contacts": float(len(contacts)),
        "groups": float(len(groups)),
        "markets": float(len(markets)),
        "social_per_trade": social / max(counts["trades"], 1.0),
        **({"position": sum(sizes) / len(sizes)} if sizes else {}),
    }


@lru_cache(maxsize=4096)
def _also(action: str) -> tuple[str, ...]:
    """What an action is beside its kind, by parts of its name."""
    found = {
        "research": any(word in action for word in ("RESEARCH", "ANALY", "QUERY")),
        "requests": "REQUEST" in action or action.startswith("ASK"),
        "shared": "SHARE_" in action,
    }
    return tuple(name for name, holds in found.items() if holds)


def _named(parameters: Mapping[str, object], *names: str) -> set[str]:
    """Whom or what an action was about, by the first of the names that the parameters have; empty for nobody."""
    for name in names:
        if value := parameters.get(name):
            return {str(value)}
    return set()


def _money(trajectory: Trajectory) -> dict[str, float]:
    """Profit, and how it moved from turn to turn."""
    counts = {} if (total := final_pnl(trajectory)) is None else {"pnl": total}
    course = [pnl for turn in trajectory.turns if (pnl := number(turn.state, "agentPnL", "agent_pnl")) is not None]
    moves = [after - before for before, after in pairwise(course)]
    if moves:
        mean = sum(moves) / len(moves)
        counts |= {
            "pnl_variance": sum((move - mean) ** 2 for move in moves) / len(moves),
            "largest_loss": min(0.0, *moves),
            "largest_move": max(abs(move) for move in moves),
        }
    return counts


def _predictions(trajectory: Trajectory) -> dict[str, float]:
    """Trades that are bets on an answer or known to be right or wrong, and trades that paid.

    A share of nothing is left out.
    """
    trades = [turn for turn in trajectory.turns if turn.action and kind_of(turn.action.kind) == "trade"]
    verdicts = [right(turn) for turn in trades]
    known = [verdict for verdict in verdicts if verdict is not None]
    bets = (verdict is not None or _is_bet(turn) for turn, verdict in zip(trades, verdicts, strict=True))
    counts = {"predictions": float(sum(bets))}
    if known:
        counts["accuracy"] = sum(known) / len(known)
    if trades:
        counts["win_rate"] = sum(turn.reward > 0 for turn in trades) / len(trades)
        if len(trades) <= 10:
            counts["win_rate_of_few"] = counts["win_rate"]
    return counts


def _is_bet(turn: Turn) -> bool:
    return turn.action is not None and str(turn.action.parameters.get("side")).upper() in ("YES", "NO")
