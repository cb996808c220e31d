"""A market maker for yes/no shares: Hanson's logarithmic market scoring rule, in whole cents.

R. Hanson, "Logarithmic market scoring rules for modular combinatorial information aggregation" (2007): with q_yes and
q_no shares outstanding and depth b, the maker has taken in C(q) = b ln(exp(q_yes / b) + exp(q_no / b)) dollars. An
order costs the difference of C, and a share pays 1 dollar if its side wins, so the maker loses b ln 2 dollars at most
from equal prices.

A cost is rounded up and proceeds are rounded down, so that there and back is never a gain.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from math import ceil, exp, floor, log1p
from typing import Literal

Side = Literal["yes", "no"]

SHARE_CENTS = 100
"""What a share of the side that wins pays."""

DIGITS = 6
"""Of a cent, that are looked at before rounding: machines whose exp differs in its last bit still agree."""


@dataclass
class Maker:
    """The shares outstanding; ``depth`` is b: more of it moves the price less."""

    yes: int
    no: int
    depth: int

    def price(self, side: Side) -> float:
        """Dollars for the next sliver of a share: above 0, below 1, and 1 for both sides together."""
        lead = self.yes - self.no if side == "yes" else self.no - self.yes
        return 1 / (1 + exp(-lead / self.depth))

    def cost(self, side: Side, shares: int) -> int:
        """Cents that ``shares`` more of ``side`` cost, rounded up."""
        return ceil(round(self._change(side, shares), DIGITS))

    def proceeds(self, side: Side, shares: int) -> int:
        """Cents that selling ``shares`` of ``side`` brings, rounded down."""
        return floor(round(-self._change(side, -shares), DIGITS))

    def affordable(self, side: Side, cents: int) -> int:
        """The most shares of ``side`` that cost no more than ``cents``."""
        most = int(cents / (SHARE_CENTS * self.price(side))) + 1
        return bisect_right(range(1, most + 1), cents, key=lambda shares: self.cost(side, shares))

    def trade(self, side: Side, shares: int) -> None:
        """``shares`` of ``side`` change hands; a negative number comes back to the maker."""
        if side == "yes":
            self.yes += shares
        else:
            self.no += shares

    def _change(self, side: Side, shares: int) -> float:
        """The change of C in cents."""
        yes, no = (shares, 0) if side == "yes" else (0, shares)
        return SHARE_CENTS * (self._taken(self.yes + yes, self.no + no) - self._taken(self.yes, self.no))

    def _taken(self, yes: int, no: int) -> float:
        """C(q) in dollars, in the form that cannot overflow."""
        return max(yes, no) + self.depth * log1p(exp(-abs(yes - no) / self.depth))
