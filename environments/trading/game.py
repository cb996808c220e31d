"""A world being traded in: orders are carried out at the prices of the hour, then the hour passes."""

from __future__ import annotations

from environments.trading.account import START_CENTS, Account, Refused
from environments.trading.maker import Maker, Side
from environments.trading.orders import Order
from environments.trading.world import HOURS, World, maker_of


def dollars(cents: int) -> str:
    """``$12.50``, and ``-$12.50`` below 0."""
    return f"{'-' * (cents < 0)}${abs(cents) // 100}.{abs(cents) % 100:02}"


class Game:
    """The hour, the makers and the agent's account. ``makers[i]`` is None once market i is resolved."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.hour = 1
        self.makers: list[Maker | None] = [maker_of(market) for market in world.markets]
        self.account = Account(START_CENTS, [{"yes": 0, "no": 0} for _ in world.markets])

    def price(self, asset: int) -> int:
        """Cents for a unit of an asset in this hour."""
        return self.world.assets[asset].path[self.hour - 1]

    @property
    def profit(self) -> int:
        """Cents gained so far, counting cash alone: all of it once the game is settled."""
        return self.account.cash - START_CENTS

    def carry_out(self, order: Order) -> str:
        """Do what the order says, at the prices of the hour. Returns what was done.

        Raises:
            Refused: it cannot be done; nothing has changed.
        """
        if order.action == "wait":
            return "You wait."
        if order.action in {"buy_shares", "sell_shares"}:
            return self._shares(order)
        return self._position(order)

    def _shares(self, order: Order) -> str:
        names = [f"M{index + 1}" for index in range(len(self.makers))]
        if order.target not in names:
            raise Refused(f"The markets are {', '.join(names)}.")
        market = names.index(order.target)
        maker = self.makers[market]
        if maker is None:
            raise Refused("That market is resolved.")
        side: Side | None = "yes" if order.side == "yes" else "no" if order.side == "no" else None
        if side is None:
            raise Refused("The side must be yes or no.")
        if order.action == "sell_shares":
            count, proceeds = self.account.sell_shares(maker, market, side, _whole(order.amount))
            return f"You sell {count} {side} shares of {order.target} for {dollars(proceeds)}."
        count, cost = self.account.buy_shares(maker, market, side, _cents(order.amount))
        return f"You buy {count} {side} shares of {order.target} for {dollars(cost)}."

    def _position(self, order: Order) -> str:
        names = [asset.name for asset in self.world.assets]
        if order.target not in names:
            raise Refused(f"The assets are {', '.join(names)}.")
        asset = names.index(order.target)
        if order.action == "close_position":
            back = self.account.close_position(asset, self.price(asset))
            return f"You close {order.target} and get {dollars(back)} back."
        if order.side not in {"long", "short"}:
            raise Refused("The side must be long or short.")
        direction = 1 if order.side == "long" else -1
        units = self.account.open_position(asset, direction, self.price(asset), _cents(order.amount))
        return f"You go {order.side} {units} {order.target} at {dollars(self.price(asset))}."

    def pass_hour(self) -> list[str]:
        """The crowd trades, markets resolve and prices move; after the last hour everything is settled.

        Returns what happened to the agent's holdings.
        """
        told = []
        for index, market in enumerate(self.world.markets):
            maker = self.makers[index]
            if maker is None:
                continue
            flow = market.flow[self.hour - 1]
            maker.trade("yes" if flow > 0 else "no", abs(flow))
            if self.hour in {market.resolves, HOURS}:
                self.makers[index] = None
                paid = self.account.resolve(index, market.truth)
                told.append(f"M{index + 1} resolves {market.truth}: you get {dollars(paid)}.")
        self.hour += 1
        for asset in range(len(self.world.assets)):
            if self.account.liquidate(asset, self.price(asset)):
                told.append(f"Your position in {self.world.assets[asset].name} is liquidated.")
            elif self.hour > HOURS and asset in self.account.positions:
                self.account.close_position(asset, self.price(asset))
        return told


def _cents(dollars: float | None) -> int:
    if dollars is None:
        raise Refused("The amount of dollars is missing.")
    return round(100 * dollars)


def _whole(shares: float | None) -> int | None:
    if shares is None:
        return None
    if shares != int(shares):
        raise Refused("Shares are whole.")
    return int(shares)
