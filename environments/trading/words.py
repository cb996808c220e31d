"""What the agent is told: prices, what it holds, and the news of the hour."""

from __future__ import annotations

from environments.trading.game import Game, dollars
from environments.trading.topics import DOWN, TOPICS, UP
from environments.trading.world import HOURS, News, World


def observe(game: Game) -> str:
    """The hour in full: a line for each market and asset, then one for each news item."""
    lines = [f"Hour {game.hour} of {HOURS}. Cash {dollars(game.account.cash)}."]
    lines += [_market(game, index) for index in range(len(game.makers))]
    lines += [_asset(game, index) for index in range(len(game.world.assets))]
    lines += [told(game.world, item) for item in game.world.news if item.hour == game.hour]
    return "\n".join(lines)


def told(world: World, item: News) -> str:
    """``Report: most councillors back the tram.``"""
    if item.about < len(world.markets):
        topic = TOPICS[world.markets[item.about].topic]
        text = (topic.yes if item.good else topic.no)[item.wording]
    else:
        text = (UP if item.good else DOWN)[item.wording].format(world.assets[item.about - len(world.markets)].name)
    return f"{item.source.capitalize()}: {text}."


def _market(game: Game, index: int) -> str:
    market, maker = game.world.markets[index], game.makers[index]
    question = f"M{index + 1} {TOPICS[market.topic].question}"
    if maker is None:
        return f"{question} Resolved {market.truth}."
    yes = f"{100 * maker.price('yes'):.1f}"
    no = f"{100 * maker.price('no'):.1f}"
    held = [f"{count} {side}" for side, count in game.account.shares[index].items() if count]
    return f"{question} Resolves in hour {market.resolves}. yes {yes}, no {no}." + (
        f" You hold {' and '.join(held)}." if held else ""
    )


def _asset(game: Game, index: int) -> str:
    name, price = game.world.assets[index].name, game.price(index)
    held = game.account.positions.get(index)
    if held is None:
        return f"{name} {dollars(price)}."
    side = "long" if held.direction > 0 else "short"
    return (
        f"{name} {dollars(price)}. You are {side} {held.units} units: margin {dollars(held.margin)}, "
        f"gain {dollars(held.gain(price))}."
    )
