"""The generated catalogues: the same products everywhere, made from the tables of ``kinds`` when first asked for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import combinations
from random import Random

from environments.dealing import digest_of
from environments.webshop.kinds import (
    BRANDS,
    KINDS,
    MODELS,
    SMALL_ATTRIBUTES,
    SMALL_COLORS,
    SMALL_NOUNS,
    Kind,
)
from environments.webshop.products import Product

OF_A_KIND = 50
SMALL_OF_A_KIND = 3
SMALL_PRICES = range(10, 70, 10)
"""Whole dollars; no two products of a kind cost the same."""

PRAISE = (
    "made for every day",
    "the detail that our customers mention most",
    "so it does its job for years",
    "checked by hand before it leaves us",
    "you notice it from the first day",
    "and it stays that way",
)
CLOSING = (
    "A sound choice for yourself and a welcome gift.",
    "It arrives ready to use, with a short guide in the box.",
    "We take it back within a month if it does not suit you.",
    "Designed by a team that uses it at home.",
)


@cache
def catalogue() -> tuple[Product, ...]:
    """All 1,200 products of the store."""
    return tuple(product for kind in KINDS for product in _of(kind))


def _of(kind: Kind) -> Iterator[Product]:
    chance = Random(f"webshop/{kind.name}")
    pairs = [(brand, model) for brand in BRANDS for model in MODELS]
    for brand, model in chance.sample(pairs, OF_A_KIND):
        yield _product(kind, brand, model, chance)


def _product(kind: Kind, brand: str, model: str, chance: Random) -> Product:
    noun = chance.choice(kind.nouns)
    attributes = chance.sample(kind.attributes, chance.randint(4, 6))
    title = f"{brand} {model} {noun.title()}, {attributes[0].capitalize()}, {attributes[1].capitalize()}"
    return Product(
        id=f"B{int(digest_of([kind.name, title]), 16) % 10**9:09d}",
        kind=kind.name,
        query=noun,
        path=kind.path,
        title=title,
        brand=f"{brand} {model}",
        bullets=tuple(f"{name.capitalize()}: {chance.choice(PRAISE)}" for name in attributes[1:4]),
        description=f"The {model} by {brand} is known for being: {', '.join(attributes[3:])}. {chance.choice(CLOSING)}",
        attributes=tuple(sorted(attributes)),
        options={axis: _some(values, chance) for axis, values in kind.options.items()},
        cents=100 * chance.randint(*kind.prices) - chance.choice((1, 5, 50)),
    )


def _some(values: tuple[str, ...], chance: Random) -> tuple[str, ...]:
    """Three to five of the values, in their order."""
    kept = chance.sample(range(len(values)), min(len(values), chance.randint(3, 5)))
    return tuple(values[index] for index in sorted(kept))


@cache
def small_catalogue() -> tuple[Product, ...]:
    """The 27 products of the small store: three of each noun, whose titles are two attributes and the noun.

    The title is the code as well, so that whoever can say what is asked for can write every code.
    """
    chance = Random("webshop-small")
    nouns = [(shelf, noun) for shelf, nouns in SMALL_NOUNS.items() for noun in nouns]
    return tuple(product for shelf, noun in nouns for product in _small_of(shelf, noun, chance))


def _small_of(shelf: str, noun: str, chance: Random) -> Iterator[Product]:
    pairs = list(combinations(sorted(SMALL_ATTRIBUTES), 2))
    prices = chance.sample(SMALL_PRICES, SMALL_OF_A_KIND)
    for attributes, price in zip(chance.sample(pairs, SMALL_OF_A_KIND), prices, strict=True):
        title = f"{' '.join(attributes)} {noun}"
        yield Product(
            id=title,
            kind=noun,
            query=noun,
            path=(shelf, noun),
            title=title,
            brand="",
            bullets=(),
            description="",
            attributes=attributes,
            options={"color": SMALL_COLORS},
            cents=100 * price,
        )
