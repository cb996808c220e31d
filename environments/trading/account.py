"""The agent's money, shares and positions, in whole cents: every order is exact, and refused where it cannot be."""

from __future__ import annotations

from dataclasses import dataclass, field

from environments.trading.maker import SHARE_CENTS, Maker, Side

START_CENTS = 100_000
LEVERAGE = 5
"""A position's value is at most this many times its margin."""

MOST_MARGIN_CENTS = 20_000
"""Of one asset's position."""

FEE_DIVISOR = 1000
"""A thousandth of the value, rounded up, is paid to open a position and again to close it."""


class Refused(Exception):
    """An order that cannot be carried out; the message says why. Nothing has changed."""


@dataclass
class Position:
    """Units of an asset, bought (direction 1) or sold short (-1) for ``paid`` cents all together."""

    direction: int
    units: int
    paid: int
    margin: int

    def gain(self, price: int) -> int:
        """Cents that the position has gained at this price, before the fee to close it."""
        return self.direction * (self.units * price - self.paid)


def fee(value: int) -> int:
    """Cents of fee for an order of this value."""
    return -(-value // FEE_DIVISOR)


@dataclass
class Account:
    """What the agent has. ``shares[market][side]``; ``positions[asset]`` only where there is one."""

    cash: int
    shares: list[dict[Side, int]]
    positions: dict[int, Position] = field(default_factory=dict)

    def buy_shares(self, maker: Maker, market: int, side: Side, cents: int) -> tuple[int, int]:
        """Spend up to ``cents`` on shares: how many, and what they cost."""
        if cents > self.cash:
            raise Refused("You do not have that much cash.")
        count = maker.affordable(side, cents)
        if count == 0:
            raise Refused("That does not buy one share.")
        cost = maker.cost(side, count)
        maker.trade(side, count)
        self.cash -= cost
        self.shares[market][side] += count
        return count, cost

    def sell_shares(self, maker: Maker, market: int, side: Side, count: int | None) -> tuple[int, int]:
        """Sell ``count`` shares, all of them where it is None: how many, and what they brought."""
        held = self.shares[market][side]
        count = held if count is None else count
        if count > held or held == 0:
            raise Refused(f"You hold {held} shares of that side.")
        proceeds = maker.proceeds(side, count)
        maker.trade(side, -count)
        self.cash += proceeds
        self.shares[market][side] -= count
        return count, proceeds

    def resolve(self, market: int, truth: Side) -> int:
        """The market is over: shares of the side that won pay. Returns what they paid."""
        paid = SHARE_CENTS * self.shares[market][truth]
        self.cash += paid
        self.shares[market] = {"yes": 0, "no": 0}
        return paid

    def open_position(self, asset: int, direction: int, price: int, cents: int) -> int:
        """Put up to ``cents`` of margin behind a position, or more behind one that is open. Returns the units."""
        held = self.positions.get(asset) or Position(direction, 0, 0, 0)
        if held.direction != direction:
            raise Refused("You hold a position the other way: close it first.")
        units = LEVERAGE * cents // price
        value = units * price
        margin = -(-value // LEVERAGE)
        if units == 0:
            raise Refused("That does not buy one unit.")
        if held.margin + margin > MOST_MARGIN_CENTS:
            raise Refused(f"At most ${MOST_MARGIN_CENTS // 100} of margin for one asset.")
        if margin + fee(value) > self.cash:
            raise Refused("You do not have cash for that and the fee.")
        self.cash -= margin + fee(value)
        self.positions[asset] = Position(direction, held.units + units, held.paid + value, held.margin + margin)
        return units

    def close_position(self, asset: int, price: int) -> int:
        """Close the whole position. Returns what came back: margin and gain less the fee, and never below 0."""
        if asset not in self.positions:
            raise Refused("You have no position in that.")
        held = self.positions.pop(asset)
        back = max(0, held.margin + held.gain(price) - fee(held.units * price))
        self.cash += back
        return back

    def liquidate(self, asset: int, price: int) -> bool:
        """Whether the price has used up the margin of a position, which is then gone with it."""
        held = self.positions.get(asset)
        if held is None or held.margin + held.gain(price) > 0:
            return False
        del self.positions[asset]
        return True
