from __future__ import annotations

from random import Random

import pytest

from environments.dealing import digest_of
from environments.trading.environment import LEAST_PROFIT_CENTS, Trading
from environments.trading.game import Game
from environments.trading.maker import Side
from environments.trading.orders import Order
from environments.trading.topics import ASSETS, TOPICS
from environments.trading.trader import belief, choose, profit
from environments.trading.words import observe, told
from environments.trading.world import HOURS, RIGHT, World, maker_of, roll


def _worlds(count: int) -> list[World]:
    return [roll(Random(seed)) for seed in range(count)]


def _otherwise(world: World, other: World, hour: int) -> World:
    """The same world as far as it is seen in an hour, with another's outcomes, prices, orders and news to come."""
    return World(
        tuple(
            one._replace(truth=two.truth, resolves=12, flow=one.flow[: hour - 1] + two.flow[hour - 1 :])
            for one, two in zip(world.markets, other.markets, strict=True)
        ),
        tuple(
            one._replace(path=one.path[:hour] + two.path[hour:])
            for one, two in zip(world.assets, other.assets, strict=True)
        ),
        tuple(one if one.hour <= hour else two for one, two in zip(world.news, other.news, strict=True)),
    )


def _orders(world: World, hours: int) -> list[Order]:
    game, orders = Game(world), []
    for _ in range(hours):
        orders.append(choose(game))
        game.carry_out(orders[-1])
        game.pass_hour()
    return orders


@pytest.mark.parametrize("hour", [1, 3, 5, 8])
def test_the_news_reader_knows_nothing_that_is_to_come(hour: int) -> None:
    worlds = _worlds(60)
    for world, other in zip(worlds[:30], worlds[30:], strict=True):
        assert _orders(_otherwise(world, world, hour), hour) == _orders(_otherwise(world, other, hour), hour)


def test_the_belief_by_hand() -> None:
    world = _worlds(1)[0]
    game = Game(world)
    item = world.news[0]
    prior = Game(world._replace(news=()))
    odds = belief(prior, item.about) / (1 - belief(prior, item.about))
    right = RIGHT[item.source]
    odds *= right / (1 - right) if item.good else (1 - right) / right
    assert belief(game, item.about) == pytest.approx(odds / (1 + odds))
    assert belief(prior, 4) == 0.5


def test_sources_are_right_as_often_as_the_prompt_says() -> None:
    seen: dict[str, list[bool]] = {"report": [], "rumour": []}
    for world in _worlds(1000):
        for item in world.news:
            if item.about < 3:
                seen[item.source].append(item.good is (world.markets[item.about].truth == "yes"))
    assert sum(seen["report"]) / len(seen["report"]) == pytest.approx(0.9, abs=0.02)
    assert sum(seen["rumour"]) / len(seen["rumour"]) == pytest.approx(0.65, abs=0.03)


def test_opening_prices_are_fair() -> None:
    markets = [market for world in _worlds(2000) for market in world.markets]
    wins = sum(market.truth == "yes" for market in markets if market.yes > market.no)
    prices = [maker_of(market).price("yes") for market in markets if market.yes > market.no]
    assert wins / len(prices) == pytest.approx(sum(prices) / len(prices), abs=0.03)


def test_every_market_and_asset_is_in_the_news_by_hour_3() -> None:
    for world in _worlds(50):
        assert {item.about for item in world.news if item.hour <= 3} == set(range(5))
        assert [item.hour for item in world.news] == sorted([*range(1, HOURS + 1)] * 2)


def test_no_two_topics_share_their_news() -> None:
    phrases = [phrase for topic in TOPICS for phrase in topic.yes + topic.no]
    assert len(phrases) == len(set(phrases)) == 72


def test_words_of_news() -> None:
    world = _worlds(1)[0]
    item = world.news[0]._replace(about=4, good=False, source="rumour", wording=2)
    assert told(world, item) == f"Rumour: demand for {world.assets[1].name} dries up."
    assert told(world, item._replace(about=0, good=True, source="report", wording=0)) == (
        f"Report: {TOPICS[world.markets[0].topic].yes[0]}."
    )


def test_the_hash_is_of_what_happens_and_not_of_its_words() -> None:
    world = _worlds(1)[0]
    renamed = world._replace(
        markets=tuple(market._replace(topic=index) for index, market in enumerate(world.markets)),
        assets=tuple(asset._replace(name=name) for asset, name in zip(world.assets, ASSETS, strict=False)),
        news=tuple(item._replace(wording=0) for item in world.news),
    )
    assert digest_of(renamed.key()) == digest_of(world.key())
    flipped: Side = "no" if world.markets[0].truth == "yes" else "yes"
    other = world._replace(markets=(world.markets[0]._replace(truth=flipped), *world.markets[1:]))
    assert digest_of(other.key()) != digest_of(world.key())


def test_how_many_worlds_are_dealt() -> None:
    profits = sorted(profit(world) for world in _worlds(1000))
    assert profits[500] == 32_622
    assert sum(cents < LEAST_PROFIT_CENTS for cents in profits) == 108
    assert sum(cents < 0 for cents in profits) == 44


def test_what_is_seen_is_short() -> None:
    assert max(len(observe(Game(world)).split()) for world in _worlds(100)) < 100
    assert len(Trading.system.split()) < 250
