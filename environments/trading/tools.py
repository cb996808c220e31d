"""The full market played with function calls: the scenarios of ``trading``, and its reward."""

from __future__ import annotations

from environments.calling import Miscalled, function
from environments.calling import read as read_call
from environments.calling import write as write_call
from environments.contract import Episode
from environments.episode import check_owner
from environments.trading.environment import RULES, Trading, TradingEpisode, dealt
from environments.trading.orders import Order, Unreadable
from rl.records import ScenarioRef

_MARKET = {"type": "string", "description": "A market's name, such as M1."}
_ASSET = {"type": "string", "description": "An asset's name, such as OIL."}
_YES_NO = {"type": "string", "enum": ["yes", "no"]}
_LONG_SHORT = {"type": "string", "enum": ["long", "short"]}
_DOLLARS = {"type": "number", "exclusiveMinimum": 0, "description": "Dollars."}
_SHARES = {"type": "integer", "minimum": 1, "description": "Shares; all of them where it is left out."}

TOOLS = (
    function(
        "buy_shares", "Spend dollars on yes or no shares of a market.", market=_MARKET, side=_YES_NO, amount=_DOLLARS
    ),
    function("sell_shares", "Sell shares of a market.", ("amount",), market=_MARKET, side=_YES_NO, amount=_SHARES),
    function(
        "open_position",
        "Bet on an asset's price to rise (long) or fall (short) with dollars of margin.",
        asset=_ASSET,
        side=_LONG_SHORT,
        amount=_DOLLARS,
    ),
    function("close_position", "Close the position in an asset.", asset=_ASSET),
    function("wait", "Let the hour pass."),
)
"""Their arguments are the fields of an order."""


class TradingTools(Trading):
    """The full market, an order a call."""

    name = "trading-tools"
    profile = "tools"
    system = f"{RULES}\nCall one function an hour."
    idle = write_call("wait", {})
    tools = TOOLS

    def open(self, ref: ScenarioRef) -> Episode:
        """A fresh episode of the scenario, which is the one of ``trading`` with the same split and seed.

        Raises:
            InvalidInput: the scenario belongs to another environment.
        """
        check_owner(self, ref)
        return TradingToolsEpisode(self, ref, dealt(ref.model_copy(update={"environment": Trading.name})))


class TradingToolsEpisode(TradingEpisode):
    """One world being traded in. A reply that calls no function as it should be called takes the hour."""

    def _read(self, reply: str) -> Order:
        try:
            name, arguments = read_call(reply, TOOLS)
        except Miscalled as remark:
            raise Unreadable(str(remark)) from None
        return _order(name, **arguments)

    def _write(self, order: Order) -> str:
        return write_call(order.action, order.fields())


def _order(name: str, market: str = "", asset: str = "", side: str = "", amount: float | None = None) -> Order:
    return Order(name, (market or asset).strip().upper(), side, amount)
