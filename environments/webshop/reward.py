"""The published reward of a purchase, between 0 and 1.

    type * (attributes that match + options that match + (price <= limit)) / (attributes + options + 1)

(Yao, Chen, Yang and Narasimhan 2022, WebShop, section 3.) An attribute matches where one of the product's resembles it
or a text of the product holds it. ``type`` is 1 for a product of the kind that is asked for: filed under the same
search, or two common parts of the category, or more than a fifth of the goal's type words; 1/2 for one that is not;
1/10 with under a tenth of the type words, and 0 with none, whatever else matches.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from environments.webshop.products import WORD, Product

ALIKE = 85.0
"""A token-set ratio above this is a match."""

EXACT = "size"
"""The axis whose values are compared letter by letter: ``large`` is not ``x-large``."""


class Goal(NamedTuple):
    """What is to be bought: a product like ``target``, with these attributes and options, for at most ``cents``.

    ``words`` of the instruction are what the oracle searches for.
    """

    target: Product
    attributes: tuple[str, ...]
    options: tuple[str, ...]
    cents: int
    instruction: str
    words: str


class Score(NamedTuple):
    """What a purchase got right. ``wanted`` is how many attributes, options and prices there were to get right."""

    type: float
    attributes: int
    options: int
    price: bool
    wanted: int

    @property
    def matched(self) -> int:
        """How many of them are right."""
        return self.attributes + self.options + self.price

    @property
    def total(self) -> float:
        """The reward."""
        return self.type * self.matched / self.wanted


def score(product: Product, chosen: Mapping[str, str], goal: Goal) -> Score:
    """How good it is to buy ``product`` with the options ``chosen``, a value by axis."""
    return Score(
        type=type_factor(product, goal.target),
        attributes=sum(has_attribute(product, wanted) for wanted in goal.attributes),
        options=sum(has_option(product, chosen, wanted) for wanted in goal.options),
        price=product.cents <= goal.cents,
        wanted=len(goal.attributes) + len(goal.options) + 1,
    )


def type_factor(product: Product, target: Product) -> float:
    """1, 1/2, 1/10 or 0: whether the product is of the kind of ``target``."""
    wanted = target.type_words
    shared = len(product.type_words & wanted) / len(wanted) if wanted else 0.2
    if shared < 0.1:
        return 0.1 if shared else 0.0
    same_shelf = product.query == target.query or len({*product.path} & {*target.path}) >= 2
    return 1.0 if same_shelf or shared > 0.2 else 0.5


def has_attribute(product: Product, wanted: str) -> bool:
    """Whether one of the product's attributes resembles ``wanted``, or a text of the product holds it."""
    return any(token_set_ratio(held, wanted) > ALIKE for held in product.attributes) or wanted.lower() in product.text


def has_option(product: Product, chosen: Mapping[str, str], wanted: str) -> bool:
    """Whether a chosen value is ``wanted``, or the product's texts name ``wanted`` as whole words."""
    return (
        any(same_value(axis, value, wanted) for axis, value in chosen.items())
        or f" {' '.join(WORD.findall(wanted.lower()))} " in product.words
    )


def same_value(axis: str, value: str, wanted: str) -> bool:
    """Whether a value of an axis is what is wanted: alike, and for a size the same."""
    return value == wanted if axis == EXACT else token_set_ratio(value, wanted) > ALIKE


def choice(product: Product, goal: Goal) -> dict[str, str] | None:
    """Options with which the product earns the whole reward; None where none do."""
    chosen = {}
    for axis, values in product.options.items():
        fitting = [v for wanted in goal.options for v in values if same_value(axis, v, wanted)]
        exact = [value for value in fitting if value in goal.options]
        if fitting:
            chosen[axis] = (exact or fitting)[0]
    return chosen if score(product, chosen, goal).total >= 1.0 else None


@lru_cache(maxsize=1 << 16)
def token_set_ratio(one: str, other: str) -> float:
    """How alike two phrases are as sets of words, 0 to 100 (as in the thefuzz package).

    With the common words s and what only one has, a and b: the best ratio of s with s+a, s with s+b, and s+a with s+b;
    100 where one phrase's words are all in the other's.
    """
    left, right = set(WORD.findall(one.lower())), set(WORD.findall(other.lower()))
    if not left or not right:
        return 0.0
    common = " ".join(sorted(left & right))
    first = f"{common} {' '.join(sorted(left - right))}".strip()
    second = f"{common} {' '.join(sorted(right - left))}".strip()
    pairs = [(first, second), (common, first), (common, second)] if common else [(first, second)]
    return max(ratio(*pair) for pair in pairs)


def ratio(one: str, other: str) -> float:
    """100 times twice the longest common subsequence over both lengths.

    The subsequence is counted by bits (Hyyrö 2004, Bit-parallel LCS-length computation revisited).
    """
    positions: dict[str, int] = {}
    for index, letter in enumerate(one):
        positions[letter] = positions.get(letter, 0) | 1 << index
    mask = (1 << len(one)) - 1
    open_ = mask
    for letter in other:
        matched = open_ & positions.get(letter, 0)
        open_ = ((open_ + matched) | (open_ - matched)) & mask
    length = len(one) - open_.bit_count()
    return 200 * length / (len(one) + len(other))
