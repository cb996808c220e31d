"""A product of the store, and the words that its texts are compared by."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

STOP = frozenset(
    [
        "and",
        "are",
        "but",
        "for",
        "from",
        "into",
        "its",
        "not",
        "off",
        "our",
        "that",
        "the",
        "this",
        "with",
        "you",
        "your",
    ]
)
WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True)
class Product:
    """What the store knows of a product.

    ``path`` is its category, widest first, and ``query`` the search it is filed under. ``options`` are the values of
    each axis (``color``, ``size``), in the order in which they are shown. ``cents`` is the price in cents of a dollar.
    """

    id: str
    kind: str
    query: str
    path: tuple[str, ...]
    title: str
    brand: str
    bullets: tuple[str, ...]
    description: str
    attributes: tuple[str, ...]
    options: Mapping[str, tuple[str, ...]]
    cents: int

    @cached_property
    def text(self) -> str:
        """Title, bullets and description in lower case, a line each."""
        return "\n".join((self.title, " ".join(self.bullets), self.description)).lower()

    @cached_property
    def words(self) -> str:
        """The words of ``text``, one space around each."""
        return f" {' '.join(WORD.findall(self.text))} "

    @cached_property
    def type_words(self) -> frozenset[str]:
        """What the title calls the product: its words without brand and attributes; all of them where none is left.

        Words have three letters or more and no digit, are no stop words, and lose a plural ``s``. They stand in for
        the nouns that the published reward finds with a parser.
        """
        named = _type_words(self.title)
        return named - _type_words(" ".join((self.brand, *self.attributes))) or named


def all_texts(product: Product) -> str:
    """What a search looks through: all texts and the options."""
    values = " ".join(value for axis in product.options.values() for value in axis)
    return f"{product.text}\n{values}"


def _type_words(text: str) -> frozenset[str]:
    found = (word for word in WORD.findall(text.lower()) if len(word) > 2 and word.isalpha() and word not in STOP)
    return frozenset(singular(word) for word in found)


def singular(word: str) -> str:
    """The word without a plural ``s``: ``shirts`` is ``shirt``, ``dress`` stays."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
