"""Whether a reward asks for what is wanted: to solve early beats to solve late, beats to fail, beats to say nothing.

A policy finds what a reward pays for. Episodes of one scenario are compared in pairs:

1. *short*: a right episode is worth at least as much as a right one of more turns;
2. *right*: a right episode is worth more than any wrong one;
3. *silent*: a right episode is worth more than one in which nothing was answered;
4. *answer*: a wrong episode is worth at least as much as one in which nothing was answered.

Where a sum of rewards counts as a success from a threshold on, the right episode of a pair of *right* or *silent* has
to reach it, and the other one must not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Literal, NamedTuple

from rl.records import Record

Kind = Literal["right", "wrong", "silent"]
Name = Literal["short", "right", "silent", "answer"]
Status = Literal["holds", "broken", "untested", "inapplicable"]
TOLERANCE = 1e-9
"""Rewards that are sums of the same parts in another order are equal."""


class Sampled(NamedTuple):
    """One episode: how it ended, in how many turns, and the sum of its rewards. ``how`` says it in words.

    ``success`` is the sum from which it counts as a success, None where there is no such threshold. ``by_reward`` tells
    that right was told from wrong by that threshold alone.
    """

    scenario: str
    kind: Kind
    turns: int
    reward: float
    how: str = ""
    success: float | None = None
    by_reward: bool = False

    @property
    def passes(self) -> bool:
        """Whether its rewards make it a success."""
        return self.success is not None and self.reward >= self.success


class Fault(Record):
    """The pair that breaks a rule most: ``worse`` is worth too much beside ``better``. So many ``pairs`` break it."""

    rule: Name
    better: Sampled
    worse: Sampled
    pairs: int

    def words(self) -> str:
        """What the two episodes are worth, and the threshold where that is what is wrong."""
        told = f"{_told(self.worse)} is worth {self.worse.reward:g}, {_told(self.better)} {self.better.reward:g}"
        crossed = RULES[self.rule].strict and (self.worse.passes or not _reaches(self.better))
        return f"{told}, and {self.better.success:g} is a success" if crossed else told


class Tested(Record):
    """What became of a rule. ``pairs`` of episodes were compared, ``by_construction`` of them by the reward alone.

    ``broken``: there is a ``fault``. ``untested``: the samples hold no pair to compare. ``inapplicable``: nor can they,
    as all episodes have the same number of turns, so that none is shorter than another.
    """

    rule: Name
    status: Status
    pairs: int
    by_construction: int
    fault: Fault | None = None

    @property
    def passed(self) -> bool:
        """Whether the reward keeps the rule: one that was not tested is not known to be kept."""
        return self.status in {"holds", "inapplicable"}


class Rule(NamedTuple):
    """Which pairs it is about, and whether the better one has to be worth more, and not just as much."""

    better: Kind
    worse: Kind
    strict: bool
    applies: Callable[[Sampled, Sampled], bool] = lambda better, worse: True


RULES: dict[Name, Rule] = {
    "short": Rule("right", "right", False, lambda better, worse: better.turns < worse.turns),
    "right": Rule("right", "wrong", True),
    "silent": Rule("right", "silent", True),
    "answer": Rule("wrong", "silent", False),
}


def lint(samples: Iterable[Sampled]) -> list[Tested]:
    """What became of each rule, in their order. Only episodes of one scenario are compared."""
    by_scenario: dict[str, list[Sampled]] = {}
    for one in samples:
        by_scenario.setdefault(one.scenario, []).append(one)
    lengths = {one.turns for episodes in by_scenario.values() for one in episodes}
    return [_tested(name, list(by_scenario.values()), len(lengths) == 1) for name in RULES]


def _tested(name: Name, scenarios: Sequence[Sequence[Sampled]], all_as_long: bool) -> Tested:
    rule = RULES[name]
    pairs = [pair for episodes in scenarios for pair in _pairs(rule, episodes)]
    broken = [pair for pair in pairs if not _holds(rule, *pair)]
    fault, status = None, _untested(name, all_as_long)
    if broken:
        better, worse = max(broken, key=lambda pair: pair[1].reward - pair[0].reward)
        fault = Fault(rule=name, better=better, worse=worse, pairs=len(broken))
    if pairs:
        status = "broken" if broken else "holds"
    alone = sum(name == "right" and better.by_reward and worse.by_reward for better, worse in pairs)
    return Tested(rule=name, status=status, pairs=len(pairs), by_construction=alone, fault=fault)


def _untested(name: Name, all_as_long: bool) -> Status:
    return "inapplicable" if name == "short" and all_as_long else "untested"


def _pairs(rule: Rule, episodes: Sequence[Sampled]) -> list[tuple[Sampled, Sampled]]:
    mine = [one for one in episodes if one.kind == rule.better]
    others = [one for one in episodes if one.kind == rule.worse]
    return [(better, worse) for better, worse in product(mine, others) if rule.applies(better, worse)]


def _holds(rule: Rule, better: Sampled, worse: Sampled) -> bool:
    if not rule.strict:
        return better.reward >= worse.reward - TOLERANCE
    return better.reward > worse.reward + TOLERANCE and not worse.passes and _reaches(better)


def _reaches(better: Sampled) -> bool:
    return better.passes or better.success is None


def _told(one: Sampled) -> str:
    turns = f"{one.turns} turn{'' if one.turns == 1 else 's'}"
    kind = {"right": "a right episode", "wrong": "a wrong episode", "silent": "an episode without an answer"}[one.kind]
    return f"{kind} of {turns}" + (f" ({one.how})" if one.how else "")
