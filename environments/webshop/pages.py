"""What the pages of a store say, in the long form of the published text mode and in a short one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from environments.webshop.products import Product


class Buttons(NamedTuple):
    """What the fixed buttons are called. ``details`` open the texts of a product."""

    search: str
    next: str
    previous: str
    buy: str
    details: tuple[str, ...]


class Wording(Protocol):
    """How a store speaks."""

    @property
    def buttons(self) -> Buttons:
        """What its buttons are called."""

    def front(self, instruction: str) -> str:
        """The page with the search bar."""

    def results(
        self, instruction: str, shown: Sequence[Product], number: int, total: int, buttons: Sequence[str]
    ) -> str:
        """A page of results; ``buttons`` are its fixed ones."""

    def item(self, instruction: str, product: Product, chosen: Mapping[str, str]) -> str:
        """The page of a product."""

    def detail(self, instruction: str, product: Product, name: str) -> str:
        """One of the product's texts."""


def dollars(cents: int) -> str:
    """``$12.50``."""
    return f"${cents / 100:.2f}"


class Long:
    """The published text mode: what a page says, and the buttons among it, joined by ``[SEP]``."""

    buttons = Buttons("Back to Search", "Next >", "< Prev", "Buy Now", ("Description", "Features", "Attributes"))

    def front(self, instruction: str) -> str:
        return _joined("WebShop", "Instruction:", instruction, "Search")

    def results(
        self, instruction: str, shown: Sequence[Product], number: int, total: int, buttons: Sequence[str]
    ) -> str:
        back, *turning = buttons
        found = [text for product in shown for text in (product.id, product.title, dollars(product.cents))]
        heading = f"Page {number} (Total results: {total})"
        return _joined("Instruction:", instruction, back, heading, *turning, *found)

    def item(self, instruction: str, product: Product, chosen: Mapping[str, str]) -> str:
        axes = [text for axis, values in product.options.items() for text in (axis, *values)]
        picked = [f"Chosen: {', '.join(f'{axis} {value}' for axis, value in chosen.items())}"] if chosen else []
        texts = (*axes, product.title, f"Price: {dollars(product.cents)}", *picked)
        names = self.buttons
        return _joined("Instruction:", instruction, names.search, names.previous, *texts, *names.details, names.buy)

    def detail(self, instruction: str, product: Product, name: str) -> str:
        texts = {"Description": (product.description,), "Features": product.bullets, "Attributes": product.attributes}
        return _joined("Instruction:", instruction, self.buttons.search, self.buttons.previous, *texts[name])


def _joined(*parts: str) -> str:
    return " [SEP] ".join(parts)


class Short:
    """A few short lines a page, with its buttons in the last. The instruction is said once, on the first page."""

    buttons = Buttons("search", "next", "back", "buy", ())

    def front(self, instruction: str) -> str:
        return instruction

    def results(
        self, instruction: str, shown: Sequence[Product], number: int, total: int, buttons: Sequence[str]
    ) -> str:
        return "\n".join((*(_line(product) for product in shown), f"buttons: {' '.join(buttons)}"))

    def item(self, instruction: str, product: Product, chosen: Mapping[str, str]) -> str:
        names = self.buttons
        fixed = f"buttons: {names.search} {names.previous} {names.buy}"
        return "\n".join((_line(product), *_options(product, chosen), fixed))

    def detail(self, instruction: str, product: Product, name: str) -> str:
        return _line(product)


def _line(product: Product) -> str:
    return f"{product.id}, {product.cents // 100}"


def _options(product: Product, chosen: Mapping[str, str]) -> Iterator[str]:
    for axis, values in product.options.items():
        yield f"{axis}: {' '.join(values)}"
    if chosen:
        yield f"chosen: {' '.join(chosen.values())}"
