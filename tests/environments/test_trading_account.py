from __future__ import annotations

import json
from random import Random

import pytest

from environments.trading.account import Account, Position, Refused
from environments.trading.game import Game, dollars
from environments.trading.maker import Maker, Side
from environments.trading.orders import Order
from environments.trading.world import HOURS, Asset, Market, World, roll


def _account(cash: int = 100_000) -> Account:
    return Account(cash, [{"yes": 0, "no": 0}])


def _quiet(truth: Side = "yes", resolves: int = 12, path: tuple[int, ...] = (1000,) * (HOURS + 1)) -> World:
    """One market at even prices, one asset, no crowd and no news."""
    return World((Market(0, 0, 0, truth, resolves, (0,) * HOURS),), (Asset("OIL", path),), ())


def _settle(game: Game) -> int:
    while game.hour <= HOURS:
        game.pass_hour()
    return game.profit


def test_shares_by_hand() -> None:
    account, maker = _account(), Maker(0, 0, 100)
    assert account.buy_shares(maker, 0, "yes", 6250) == (100, 6202)
    assert (account.cash, account.shares[0]) == (93_798, {"yes": 100, "no": 0})
    assert account.sell_shares(maker, 0, "yes", None) == (100, 6201)
    assert (account.cash, account.shares[0], maker) == (99_999, {"yes": 0, "no": 0}, Maker(0, 0, 100))


@pytest.mark.parametrize(("truth", "profit"), [("yes", 10_000 - 5619), ("no", -5619)])
def test_shares_pay_when_the_market_resolves(truth: Side, profit: int) -> None:
    game = Game(_quiet(truth))
    # 200 ln((exp(100 / 200) + 1) / 2) = 56.1860 dollars
    assert game.carry_out(Order("buy_shares", "M1", "yes", 56.19)) == "You buy 100 yes shares of M1 for $56.19."
    assert _settle(game) == profit


def test_a_market_resolves_in_its_hour_and_takes_no_orders_after_it() -> None:
    game = Game(_quiet("no", resolves=2))
    game.carry_out(Order("buy_shares", "M1", "no", 56.19))
    assert game.pass_hour() == []
    assert game.pass_hour() == ["M1 resolves no: you get $100.00."]
    assert game.profit == 10_000 - 5619
    with pytest.raises(Refused, match="resolved"):
        game.carry_out(Order("sell_shares", "M1", "no"))


@pytest.mark.parametrize(("side", "profit"), [("long", 10_000 - 100 - 110), ("short", -10_000 - 100 - 110)])
def test_positions_by_hand(side: str, profit: int) -> None:
    # $200 of margin hold 100 units at $10; they are closed at $11; the fees are 0.1 % of $1,000 and of $1,100.
    game = Game(_quiet(path=(1000, *(1100,) * HOURS)))
    assert game.carry_out(Order("open_position", "OIL", side, 200)) == f"You go {side} 100 OIL at $10.00."
    assert game.account.cash == 100_000 - 20_000 - 100
    game.pass_hour()
    game.carry_out(Order("close_position", "OIL"))
    assert game.profit == profit
    assert _settle(game) == profit


def test_an_open_position_is_closed_at_the_price_after_the_last_hour() -> None:
    game = Game(_quiet(path=(*(1000,) * HOURS, 990)))
    game.carry_out(Order("open_position", "OIL", "short", 100))
    assert _settle(game) == 50 * 10 - 50 - 50  # the fee of $495 is rounded up


def test_adding_to_a_position_keeps_both_prices() -> None:
    account = _account()
    account.open_position(0, 1, 1000, 10_000)
    account.open_position(0, 1, 1250, 10_000)
    assert account.positions[0] == Position(1, 50 + 40, 50_000 + 50_000, 20_000)
    assert account.close_position(0, 1200) == 20_000 + (90 * 1200 - 100_000) - 108


def test_a_position_whose_margin_is_used_up_is_gone() -> None:
    game = Game(_quiet(path=(1000, 801, *(800,) * (HOURS - 1))))
    game.carry_out(Order("open_position", "OIL", "long", 200))
    assert game.pass_hour() == []
    assert game.pass_hour() == ["Your position in OIL is liquidated."]
    assert game.account.positions == {}
    assert _settle(game) == -20_100


def test_closing_never_costs_more_than_the_margin() -> None:
    account = _account()
    account.open_position(0, 1, 1000, 20_000)
    assert account.close_position(0, 801) == 100 - 81
    account.open_position(0, 1, 1000, 20_000)
    assert account.close_position(0, 800) == 0


@pytest.mark.parametrize(
    ("order", "why"),
    [
        (Order("buy_shares", "M1", "yes", 1000.01), "that much cash"),
        (Order("buy_shares", "M1", "yes", 1e9), "that much cash"),
        (Order("buy_shares", "M1", "yes", 0.001), "one share"),
        (Order("buy_shares", "M1", "yes"), "missing"),
        (Order("buy_shares", "M1", "long", 10), "yes or no"),
        (Order("buy_shares", "M2", "yes", 10), "markets are M1"),
        (Order("buy_shares", "", "yes", 10), "markets are M1"),
        (Order("sell_shares", "M1", "yes"), "hold 0"),
        (Order("sell_shares", "M1", "yes", 1), "hold 0"),
        (Order("sell_shares", "M1", "yes", 0.5), "whole"),
        (Order("sell_shares", "M1", "yes", 1e9), "hold 0"),
        (Order("open_position", "OIL", "long", 202), "At most"),
        (Order("open_position", "OIL", "long", 1e9), "At most"),
        (Order("open_position", "OIL", "long", 1), "one unit"),
        (Order("open_position", "OIL", "yes", 10), "long or short"),
        (Order("open_position", "GOLD", "long", 10), "assets are OIL"),
        (Order("close_position", "OIL"), "no position"),
    ],
)
def test_what_cannot_be_done_changes_nothing(order: Order, why: str) -> None:
    game = Game(_quiet())
    with pytest.raises(Refused, match=why):
        game.carry_out(order)
    assert game.account == _account()
    assert game.makers == [Maker(0, 0, 200)]


def test_a_position_the_other_way_has_to_be_closed_first() -> None:
    account = _account()
    account.open_position(0, 1, 1000, 10_000)
    with pytest.raises(Refused, match="close it first"):
        account.open_position(0, -1, 1000, 10_000)


def test_margin_needs_cash_for_the_fee_too() -> None:
    account = _account(cash=10_000)
    with pytest.raises(Refused, match="fee"):
        account.open_position(0, 1, 1000, 10_000)


def _random_order(game: Game, chance: Random) -> Order:
    market, asset = f"M{1 + chance.randrange(3)}", chance.choice(game.world.assets).name
    return chance.choice(
        [
            Order("buy_shares", market, chance.choice(("yes", "no")), chance.uniform(0, 400)),
            Order("sell_shares", market, chance.choice(("yes", "no")), chance.choice((None, chance.randrange(1, 200)))),
            Order("open_position", asset, chance.choice(("long", "short")), chance.uniform(0, 250)),
            Order("close_position", asset),
        ]
    )


@pytest.mark.parametrize("seed", range(40))
def test_no_cent_comes_or_goes_unseen(seed: int) -> None:
    """A second ledger, of shares traded, units traded and fees alone, ends with the same profit."""
    chance = Random(seed)
    game = Game(roll(chance))
    ledger, shares = 0, {(index, side): 0 for index in range(3) for side in ("yes", "no")}
    while game.hour <= HOURS:
        for _ in range(3):
            before = game.account.cash
            held = {asset: (p.units, p.paid, p.margin, p.direction) for asset, p in game.account.positions.items()}
            order = _random_order(game, chance)
            try:
                note = game.carry_out(order)
            except Refused:
                assert game.account.cash == before
                continue
            words = note.split()
            if order.action == "buy_shares":
                shares[int(order.target[1]) - 1, order.side] += int(words[2])
                ledger -= round(100 * float(words[-1].strip("$.")))
            elif order.action == "sell_shares":
                shares[int(order.target[1]) - 1, order.side] -= int(words[2])
                ledger += round(100 * float(words[-1].strip("$.")))
            elif order.action == "open_position":
                value = int(words[3]) * game.price([asset.name for asset in game.world.assets].index(order.target))
                ledger -= -(-value // 5) + -(-value // 1000)
            else:
                asset = [asset.name for asset in game.world.assets].index(order.target)
                units, paid, margin, direction = held[asset]
                value = units * game.price(asset)
                ledger += max(0, margin + direction * (value - paid) - -(-value // 1000))
            assert game.account.cash >= 0
            assert game.profit == ledger
        open_before = dict(game.account.positions)
        resolved = [index for index, maker in enumerate(game.makers) if maker is not None]
        game.pass_hour()
        for index in resolved:
            if game.makers[index] is None:
                ledger += 100 * shares[index, game.world.markets[index].truth]
                shares[index, "yes"] = shares[index, "no"] = 0
        for asset, position in open_before.items():
            value = position.units * game.price(asset)
            left = position.margin + position.direction * (value - position.paid)
            assert (asset in game.account.positions) is (left > 0 and game.hour <= HOURS)
            if game.hour > HOURS and left > 0:
                ledger += max(0, left - -(-value // 1000))
        assert game.profit == ledger
    assert game.account.positions == {}
    assert game.makers == [None] * 3


@pytest.mark.parametrize(("cents", "text"), [(0, "$0.00"), (1205, "$12.05"), (-5, "-$0.05"), (-100, "-$1.00")])
def test_dollars(cents: int, text: str) -> None:
    assert dollars(cents) == text


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (Order("wait"), {"action": "wait"}),
        (Order("sell_shares", "M1", "yes"), {"action": "sell_shares", "market": "M1", "side": "yes"}),
        (
            Order("open_position", "OIL", "long", 50),
            {"action": "open_position", "asset": "OIL", "side": "long", "amount": 50},
        ),
    ],
)
def test_the_canonical_text(order: Order, said: dict[str, object]) -> None:
    assert json.loads(order.json()) == said
