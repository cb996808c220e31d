"""Trading for small models: two hours, each with one market and a line of news, and three things to say.

A market asks a question that resolves at the end of its hour. A report, a rumour or both say how; a report is right
more often. ``buy yes`` and ``buy no`` buy 100 shares.
"""

from __future__ import annotations

from math import exp, log
from random import Random
from typing import Any, NamedTuple

from environments.contract import Episode
from environments.dealing import Dealt, deal
from environments.episode import TextEnvironment, TextEpisode, Took, action_of, check_owner
from environments.trading.maker import SHARE_CENTS, Maker, Side
from environments.trading.world import RIGHT, Source
from rl.records import ScenarioRef

HOURS = 2
SHARES = 100
DEPTH = 400
OPENINGS = (40, 60)
"""Whole cents at which a market opens, and that are shown: two scenarios that differ are not told in the same words."""

FORM = "Reply buy yes, buy no or wait."
REPLIES: dict[str, Side | None] = {"buy yes": "yes", "buy no": "no", "wait": None}
SOURCES: tuple[tuple[Source, ...], ...] = (("report",), ("rumour",), ("report", "rumour"), ("rumour", "report"))


class Hour(NamedTuple):
    """A market: how far yes is ahead of no, what the sources say in their order, and what comes true."""

    lead: int
    news: tuple[tuple[Source, Side], ...]
    truth: Side

    @property
    def best(self) -> Side:
        """What the report says, or the rumour where there is none: prices are never strong enough to say otherwise."""
        said = dict(self.news)
        return said["report"] if "report" in said else said["rumour"]

    def gain(self, side: Side | None) -> int:
        """Cents that 100 shares of a side gain; 0 for none."""
        if side is None:
            return 0
        cost = Maker(max(self.lead, 0), max(-self.lead, 0), DEPTH).cost(side, SHARES)
        return SHARES * SHARE_CENTS * (side == self.truth) - cost


def draw(chance: Random) -> tuple[Hour, ...]:
    """Two hours whose best sides come true."""
    hours: list[Hour] = []
    while len(hours) < HOURS:
        hour = _hour(chance)
        if hour.best == hour.truth:
            hours.append(hour)
    return tuple(hours)


def _hour(chance: Random) -> Hour:
    cents = chance.randint(*OPENINGS)
    lead = round(DEPTH * log(cents / (SHARE_CENTS - cents)))
    truth, other = _sides(chance.random() < 1 / (1 + exp(-lead / DEPTH)))
    sources = chance.choice(SOURCES)
    return Hour(lead, tuple((source, truth if chance.random() < RIGHT[source] else other) for source in sources), truth)


def _sides(yes: bool) -> tuple[Side, Side]:
    return ("yes", "no") if yes else ("no", "yes")


def key(hours: tuple[Hour, ...]) -> list[Any]:
    """All of both hours, which is as much as what is shown of them: what comes true is what the news rightly say."""
    return [list(hour) for hour in hours]


class TradingSmall(TextEnvironment):
    """Both hours have to be read rightly: one alone gains less than three quarters of both."""

    name = "trading-small"
    profile = "small"
    system = f"Each hour you may bet on a question. A report is right more often than a rumour. {FORM}"
    max_turns = HOURS
    max_tokens = 6
    success = 0.75
    idle = "wait"

    def open(self, ref: ScenarioRef) -> Episode:
        """A fresh episode of the scenario.

        Raises:
            InvalidInput: the scenario belongs to another environment.
        """
        check_owner(self, ref)
        return TradingSmallEpisode(self, ref, deal(ref, draw, key))


class TradingSmallEpisode(TextEpisode):
    """Two hours being traded in."""

    def __init__(self, environment: TradingSmall, ref: ScenarioRef, dealt: Dealt[tuple[Hour, ...]]) -> None:
        self._hours = dealt.content
        self._gained = 0
        self._par = sum(hour.gain(hour.best) for hour in self._hours)
        kind = "conflict" if any(len({side for _, side in hour.news}) == 2 for hour in self._hours) else "agree"
        super().__init__(environment, ref, dealt.digest, self._observe(0), kind)

    def _act(self, reply: str) -> Took:
        said = action_of(reply).lower().strip(" .")
        gain = self._hours[self._turns - 1].gain(REPLIES.get(said))
        return self._pass_hour(gain, "" if said in REPLIES else f"{FORM} ")

    def _too_long(self) -> Took:
        return self._pass_hour(0, f"{FORM} ")

    def _pass_hour(self, gain: int, note: str) -> Took:
        self._gained += gain
        if self._turns == HOURS:
            return Took("", min(1.0, max(0.0, self._gained / self._par)), over=True)
        return Took(f"{note}You gain {gain / 100:.0f}. {self._observe(self._turns)}")

    @property
    def solved(self) -> bool:
        """Whether the hours so far gain three quarters of what believing the best source in both does, or more."""
        return self._gained >= self._environment.success * self._par

    def _observe(self, place: int) -> str:
        hour = self._hours[place]
        yes = round(100 / (1 + exp(-hour.lead / DEPTH)))
        news = ". ".join(f"{source.capitalize()} {side}" for source, side in hour.news)
        return f"Yes {yes}, no {100 - yes}. {news}."

    def oracle(self) -> str:
        """Buy what the report says, or the rumour."""
        return f"buy {self._hours[self._turns].best}"

    def guess(self, chance: Random) -> str:
        """Any of the three replies."""
        return chance.choice(list(REPLIES))
