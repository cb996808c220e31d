"""A trader who reads the news: the scripted expert, who knows no more than the agent is shown.

It keeps the log-odds of each outcome and trend: those of the opening price (even for a trend) and the evidence of each
news item. Each hour it gives the one order that it expects to gain most from, if that is at least five dollars.
A share order moves the price to its belief: it sells what it holds of the other side before it buys.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import exp, log
from typing import NamedTuple

from environments.trading.account import FEE_DIVISOR, LEVERAGE, MOST_MARGIN_CENTS
from environments.trading.game import Game
from environments.trading.maker import Side
from environments.trading.orders import Order
from environments.trading.world import DEPTH, HOURS, TREND, World

MOST_DOLLARS = 250
"""Spent in one order."""

STEP_DOLLARS = 10
"""Amounts are multiples of it."""

LEAST_GAIN = 5.0
"""Dollars that an order has to promise."""


class Plan(NamedTuple):
    """An order, and the dollars that it is expected to gain."""

    gain: float
    order: Order


def belief(game: Game, about: int) -> float:
    """Chance that the market ``about`` resolves yes, or that the asset goes up, as the news so far tells it."""
    markets = game.world.markets
    odds = (markets[about].yes - markets[about].no) / DEPTH if about < len(markets) else 0.0
    odds += sum(item.evidence for item in game.world.news if item.about == about and item.hour <= game.hour)
    return 1 / (1 + exp(-odds))


def choose(game: Game) -> Order:
    """The trader's order of this hour."""
    best = max([*_share_plans(game), *_position_plans(game)], key=lambda plan: plan.gain, default=None)
    return best.order if best is not None and best.gain >= LEAST_GAIN else Order("wait")


def _share_plans(game: Game) -> Iterator[Plan]:
    for index, maker in enumerate(game.makers):
        if maker is None:
            continue
        yes = belief(game, index)
        sides: tuple[Side, Side] = ("yes", "no") if yes > maker.price("yes") else ("no", "yes")
        side, other = sides
        chance, price = yes if side == "yes" else 1 - yes, maker.price(side)
        held = game.account.shares[index][other]
        if held:
            count = min(held, int(maker.depth * (log(chance / price) + log((1 - price) / (1 - chance)))))
            gain = maker.proceeds(other, count) / 100 - count * (1 - chance)
            yield Plan(gain, Order("sell_shares", f"M{index + 1}", other, count))
            continue
        wanted = maker.depth * log((1 - price) / (1 - chance))
        spend = _rounded(min(wanted, MOST_DOLLARS, game.account.cash / 100))
        gain = maker.affordable(side, 100 * spend) * chance - spend
        yield Plan(gain, Order("buy_shares", f"M{index + 1}", side, spend))


def _rounded(dollars: float) -> int:
    """Down to a multiple of the step."""
    return int(dollars) // STEP_DOLLARS * STEP_DOLLARS


def _position_plans(game: Game) -> Iterator[Plan]:
    for index, asset in enumerate(game.world.assets):
        up = belief(game, len(game.world.markets) + index)
        side, edge = ("long", 2 * up - 1) if up > 0.5 else ("short", 1 - 2 * up)
        change = edge * TREND * (HOURS + 1 - game.hour)
        held = game.account.positions.get(index)
        if held and held.direction != (1 if side == "long" else -1):
            value = held.units * game.price(index) / 100
            yield Plan(value * (change - 1 / FEE_DIVISOR), Order("close_position", asset.name))
            continue
        room = (MOST_MARGIN_CENTS - held.margin if held else MOST_MARGIN_CENTS, game.account.cash * 0.99)
        margin = _rounded(min(room) / 100)
        if margin:
            yield Plan(margin * LEVERAGE * (change - 2 / FEE_DIVISOR), Order("open_position", asset.name, side, margin))


def profit(world: World) -> int:
    """Cents that the trader gains in a world."""
    game = Game(world)
    while game.hour <= HOURS:
        game.carry_out(choose(game))
        game.pass_hour()
    return game.profit
