"""What happens in an episode whatever the agent does: outcomes, the crowd's orders, price paths and news.

A market's outcome is drawn by its opening price, so that the price alone has no edge. An asset has a trend, up or down,
for the whole episode. A news item is about one market or asset and tells its outcome or trend rightly with a chance
that its source has; the crowd follows half of what it says, an hour later. So who reads the news early has an edge, and
is sometimes wrong.
"""

from __future__ import annotations

from math import exp, log
from random import Random
from typing import Any, Literal, NamedTuple

from environments.trading.maker import Maker, Side
from environments.trading.topics import ASSETS, PHRASES, TOPICS

Source = Literal["report", "rumour"]

HOURS = 8
"""Turns of an episode: one order an hour."""

LAST_RESOLUTION = 12
"""Hours in which markets resolve; after the last turn the reward waits for the others."""

MARKETS = 3
ASSET_COUNT = 2
NEWS_AN_HOUR = 2
DEPTH = 200
RIGHT: dict[Source, float] = {"report": 0.9, "rumour": 0.65}
"""How often a source tells the truth."""

TREND = 0.015
NOISE = 0.012
"""Of an asset's price in an hour: mean and standard deviation of its change in the direction of its trend."""

FOLLOWED = 0.5
CROWD_NOISE = 0.1
"""The crowd's orders move a market's log-odds by this share of a news item's, and by chance."""


class News(NamedTuple):
    """An item: ``about`` counts the markets and then the assets; ``good`` says yes, or up. ``wording`` is a phrase."""

    hour: int
    about: int
    good: bool
    source: Source
    wording: int

    @property
    def evidence(self) -> float:
        """Logarithm of how much likelier the item is where what it says is so."""
        right = RIGHT[self.source]
        return (1 if self.good else -1) * log(right / (1 - right))


class Market(NamedTuple):
    """A question. ``flow[h]`` yes shares (no shares where negative) are bought by the crowd after hour h + 1."""

    topic: int
    yes: int
    no: int
    truth: Side
    resolves: int
    flow: tuple[int, ...]


class Asset(NamedTuple):
    """A perpetual future. ``path[h]`` is its price in cents in hour h + 1; the last one is after the last turn."""

    name: str
    path: tuple[int, ...]


class World(NamedTuple):
    """A scenario."""

    markets: tuple[Market, ...]
    assets: tuple[Asset, ...]
    news: tuple[News, ...]

    def key(self) -> list[Any]:
        """Everything that happens, without the words that tell it."""
        return [
            [market[1:] for market in self.markets],
            [asset.path for asset in self.assets],
            [item[:-1] for item in self.news],
        ]


def roll(chance: Random) -> World:
    """A world drawn by chance."""
    topics = chance.sample(range(len(TOPICS)), MARKETS)
    openings = [round(DEPTH * chance.uniform(-1, 1)) for _ in topics]
    outcomes = [chance.random() < 1 / (1 + exp(-lead / DEPTH)) for lead in openings]
    trends = [chance.random() < 0.5 for _ in range(ASSET_COUNT)]
    news = _news(chance, outcomes + trends)
    names = chance.sample(ASSETS, ASSET_COUNT)
    return World(
        tuple(
            Market(
                topic,
                max(lead, 0),
                max(-lead, 0),
                "yes" if outcome else "no",
                chance.randint(HOURS // 2, LAST_RESOLUTION),
                _flow(chance, [item for item in news if item.about == index]),
            )
            for index, (topic, lead, outcome) in enumerate(zip(topics, openings, outcomes, strict=True))
        ),
        tuple(Asset(name, _path(chance, 1 if up else -1)) for name, up in zip(names, trends, strict=True)),
        tuple(news),
    )


def _news(chance: Random, truths: list[bool]) -> list[News]:
    """Items of all hours, in their order; each market and asset comes up once before one does again."""
    order: list[int] = []
    while len(order) < HOURS * NEWS_AN_HOUR:
        order += chance.sample(range(len(truths)), len(truths))
    items = []
    for place, about in enumerate(order[: HOURS * NEWS_AN_HOUR]):
        source: Source = chance.choice(("report", "rumour"))
        good = truths[about] is (chance.random() < RIGHT[source])
        items.append(News(1 + place // NEWS_AN_HOUR, about, good, source, chance.randrange(PHRASES)))
    return items


def _flow(chance: Random, news: list[News]) -> tuple[int, ...]:
    """The crowd's orders after each hour."""
    moves = [sum(item.evidence for item in news if item.hour == hour) for hour in range(1, HOURS + 1)]
    return tuple(round(DEPTH * (FOLLOWED * move + chance.gauss(0, CROWD_NOISE))) for move in moves)


def _path(chance: Random, direction: int) -> tuple[int, ...]:
    """Prices in cents of all hours and the one after them."""
    prices = [chance.uniform(400, 2000)]
    for _ in range(HOURS):
        prices.append(prices[-1] * exp(direction * TREND + chance.gauss(0, NOISE)))
    return tuple(round(price) for price in prices)


def maker_of(market: Market) -> Maker:
    """The market's maker as it opens."""
    return Maker(market.yes, market.no, DEPTH)
