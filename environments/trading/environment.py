"""The market as an environment: eight hours of three prediction markets and two perpetual futures, an order an hour."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from environments.contract import Episode
from environments.dealing import Dealt, deal, digest_of, split_of
from environments.episode import MOST_CHARACTERS, TextEnvironment, TextEpisode, Took, check_owner
from environments.trading.account import Refused
from environments.trading.game import Game
from environments.trading.maker import Side
from environments.trading.orders import Order, Unreadable, read
from environments.trading.trader import choose, profit
from environments.trading.words import observe
from environments.trading.world import HOURS, World, roll
from rl.records import ScenarioRef

LEAST_PROFIT_CENTS = 10_000
"""Of the scripted trader: worlds in which reading the news gains less are not dealt."""

AMOUNTS = (50, 100, 150, 200, 250)
"""Dollars that a guess spends."""


RULES = """You trade for 8 hours, one action an hour, and want to end with as much cash as you can.
M1, M2 and M3 are prediction markets. A share of the side that comes true pays $1, the other nothing. Prices are in \
cents and move against you as you buy (logarithmic market maker, depth 200). An opening price is a fair chance.
The two assets each have a trend, up or down, of 1.5 % an hour under noise. A position is 5 times its margin, of \
which an asset takes $200 at most. Opening and closing cost 0.1 % of its value. When its margin is lost it is gone.
News is about one market or asset. Reports are right 9 times in 10, rumours 65 in 100. Others trade on news an hour \
later.
After hour 8 positions are closed and all markets pay, whenever they resolve."""


class Scenario(NamedTuple):
    """A world, and the cents that the scripted trader gains in it."""

    world: World
    par: int


def draw(chance: Random, split: str) -> Scenario:
    """The first world of the split in which the scripted trader gains enough."""
    while True:
        world = roll(chance)
        if split_of(digest_of(world.key())) == split:
            par = profit(world)
            if par >= LEAST_PROFIT_CENTS:
                return Scenario(world, par)


def reward(cents: int, par: int) -> float:
    """The share of the scripted trader's profit: 0 for a loss, as for doing nothing, and 1 from its profit on."""
    return min(1.0, max(0.0, cents / par))


class Trading(TextEnvironment):
    """The full market."""

    name = "trading"
    system = f"""{RULES}
Reply with one JSON object, at the end if you think first:
{{"action": "buy_shares", "market": "M1", "side": "yes", "amount": DOLLARS}}
{{"action": "sell_shares", "market": "M1", "side": "yes", "amount": SHARES}}
{{"action": "open_position", "asset": NAME, "side": "long" or "short", "amount": DOLLARS OF MARGIN}}
{{"action": "close_position", "asset": NAME}}
{{"action": "wait"}}"""
    max_turns = HOURS
    max_tokens = 512
    success = 0.5
    idle = Order("wait").json()

    def open(self, ref: ScenarioRef) -> Episode:
        """A fresh episode of the scenario.

        Raises:
            InvalidInput: the scenario belongs to another environment.
        """
        check_owner(self, ref)
        return TradingEpisode(self, ref, dealt(ref))


def dealt(ref: ScenarioRef) -> Dealt[Scenario]:
    """The scenario of ``trading``."""
    return deal(ref, lambda chance: draw(chance, ref.split), lambda scenario: scenario.world.key())


class TradingEpisode(TextEpisode):
    """One world being traded in. The last hour ends it, which is no truncation: nothing is left to do."""

    def __init__(self, environment: Trading, ref: ScenarioRef, dealt: Dealt[Scenario]) -> None:
        world, self._par = dealt.content
        self._game = Game(world)
        super().__init__(environment, ref, dealt.digest, observe(self._game), kind_of(world))

    def _act(self, reply: str) -> Took:
        try:
            note = self._game.carry_out(self._read(reply))
        except (Unreadable, Refused) as refusal:
            note = f"Nothing is traded. {refusal}"
        return self._pass_hour(note)

    @property
    def solved(self) -> bool:
        """Whether the game is settled with half of the scripted trader's profit, or more."""
        return self._game.hour > HOURS and self._game.profit >= self._environment.success * self._par

    def _read(self, reply: str) -> Order:
        """The order in a reply; raises ``Unreadable`` where there is none."""
        return read(reply)

    def _write(self, order: Order) -> str:
        """The reply that gives the order."""
        return order.json()

    def _too_long(self) -> Took:
        return self._pass_hour(f"Nothing is traded. The reply is longer than {MOST_CHARACTERS} characters.")

    def _pass_hour(self, note: str) -> Took:
        told = " ".join([note, *self._game.pass_hour()])
        if self._game.hour > HOURS:
            return Took("", reward(self._game.profit, self._par), over=True)
        return Took(f"{told}\n{observe(self._game)}")

    def oracle(self) -> str:
        """The scripted trader's order: it reads the news, and knows nothing else."""
        return self._write(choose(self._game))

    def guess(self, chance: Random) -> str:
        """Any of the five actions, on any market or asset, for any of some amounts."""
        action = chance.choice(("buy_shares", "sell_shares", "open_position", "close_position", "wait"))
        market = f"M{1 + chance.randrange(len(self._game.makers))}"
        asset = chance.choice(self._game.world.assets).name
        amount = chance.choice(AMOUNTS)
        side: Side = chance.choice(("yes", "no"))
        orders = {
            "buy_shares": Order("buy_shares", market, side, amount),
            "sell_shares": Order("sell_shares", market, side),
            "open_position": Order("open_position", asset, chance.choice(("long", "short")), amount),
            "close_position": Order("close_position", asset),
            "wait": Order("wait"),
        }
        return self._write(orders[action])


def kind_of(world: World) -> str:
    """``clear``, or ``mixed-2`` where the news contradicts itself about two of the markets and assets."""
    said = {(item.about, item.good) for item in world.news}
    mixed = len(said) - len({about for about, _ in said})
    return f"mixed-{mixed}" if mixed else "clear"
