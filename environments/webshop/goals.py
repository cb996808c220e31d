"""Stores, and the goals that are drawn in them: each can be reached with a search for its own words."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, NamedTuple

from environments.dealing import digest_of
from environments.webshop.products import Product
from environments.webshop.reward import Goal, choice
from environments.webshop.search import Index

MOST_FOUND = 50
"""Products that a search finds."""

LIMITS = 4
"""A limit is the larger of two of so many next multiples of 10 dollars above the price."""

SMALL_LIMITS = 5
"""A limit of the small store is the price or one of the next multiples of 10 dollars, so many together."""


class Shop:
    """Products with a search over them, ``window`` to a page of results; ``document`` is what of each is searched."""

    def __init__(self, products: Sequence[Product], window: int, document: Callable[[Product], str]) -> None:
        self.products = products
        self.window = window
        self._index = Index([document(product) for product in products])

    def find(self, words: str) -> list[Product]:
        """The products that answer the words best, best first."""
        return [self.products[number] for number, _ in self._index.search(words, MOST_FOUND)]


class Plan(NamedTuple):
    """How a goal is reached: search for its words, open ``product`` on that page of the results, choose, and buy."""

    product: Product
    page: int
    turns: int


def plan(shop: Shop, goal: Goal) -> Plan | None:
    """The plan that buys the first result of the goal's own words that earns 1; None where none of them does."""
    for position, product in enumerate(shop.find(goal.words)):
        options = choice(product, goal)
        if options is not None:
            return Plan(product, position // shop.window + 1, position // shop.window + len(options) + 3)
    return None


def draw(
    chance: Random,
    shop: Shop,
    goal_of: Callable[[Random, Product], Goal],
    belongs: Callable[[Goal], bool],
    most_turns: int,
) -> Goal:
    """The first drawn goal that belongs here and has a plan of at most so many turns."""
    while True:
        goal = goal_of(chance, chance.choice(shop.products))
        found = plan(shop, goal) if belongs(goal) else None
        if found is not None and found.turns <= most_turns:
            return goal


def key(goal: Goal) -> list[Any]:
    """What makes a goal what it is: the type of product, and what is asked of it.

    The product it was drawn from is left out: another one that fits would be the same goal.
    """
    kind = [goal.target.query, goal.target.path, sorted(goal.target.type_words)]
    return [kind, sorted(goal.attributes), sorted(goal.options), goal.cents]


def family(goal: Goal) -> list[Any]:
    """What the goals of one split of the full store have for themselves: the product that they are drawn from."""
    return [goal.target.title, goal.target.attributes, goal.target.cents]


def goal_of(chance: Random, target: Product) -> Goal:
    """A goal of the full store: two or three attributes, a value of every axis, and a limit."""
    attributes = tuple(sorted(chance.sample(target.attributes, chance.randint(2, 3))))
    options = {axis: chance.choice(values) for axis, values in target.options.items()}
    cents = (target.cents // 1000 + max(chance.sample(range(1, LIMITS + 1), 2))) * 1000
    words = " ".join((*attributes, target.query))
    goal = Goal(target, attributes, tuple(options.values()), cents, "", words)
    phrase = PHRASES[int(digest_of(key(goal)), 16) % len(PHRASES)]
    parts = ", ".join(f"{axis} {value}" for axis, value in options.items())
    said = phrase.format(noun=target.query, wanted=", ".join(attributes), parts=parts, price=f"{cents / 100:.2f}")
    return goal._replace(instruction=said)


def small_goals(target: Product) -> Iterator[Goal]:
    """All goals of the small store that are drawn from a product: one or two attributes, a color, and a limit."""
    wanted = [*((attribute,) for attribute in target.attributes), target.attributes]
    for attributes, color, above in itertools.product(wanted, target.options["color"], range(SMALL_LIMITS)):
        cents = target.cents + 1000 * above
        said = f"buy a {' '.join((*attributes, color, target.query))} for at most {cents // 100}"
        yield Goal(target, attributes, (color,), cents, said, target.query)


PHRASES = (
    "I need {noun}: {wanted}. Take {parts}. It should cost no more than {price} dollars.",
    "Please order {noun} for me ({wanted}) in {parts}, for at most {price} dollars.",
    "I am after {noun} that can be described as {wanted}; I want {parts}, and my limit is {price} dollars.",
    "Buy {noun} with these features: {wanted}. The options are {parts}. Stay at or below {price} dollars.",
)
