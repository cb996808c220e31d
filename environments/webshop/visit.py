"""One visit to a store: where the agent is, which buttons are there, and what they do."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from environments.webshop.goals import Shop
from environments.webshop.pages import Wording
from environments.webshop.products import Product


class Page(StrEnum):
    """Where a visit is."""

    FRONT = "front"
    """The search bar."""
    RESULTS = "results"
    """A page of what a search found."""
    ITEM = "item"
    """A product, with its options."""
    DETAIL = "detail"
    """One text of a product."""
    BOUGHT = "bought"
    """The end."""


class Visit:
    """Begins at the search bar. ``click`` takes what ``buttons`` names; ``search`` works at the search bar alone."""

    def __init__(self, shop: Shop, wording: Wording, instruction: str) -> None:
        self.page = Page.FRONT
        self.words = ""
        self.number = 1
        self.product: Product | None = None
        self.chosen: dict[str, str] = {}
        self._shop = shop
        self._wording = wording
        self._instruction = instruction
        self._found: list[Product] = []
        self._detail = ""

    def shown(self) -> Sequence[Product]:
        """The products on this page of the results."""
        start = (self.number - 1) * self._shop.window
        return self._found[start : start + self._shop.window]

    def fixed(self) -> list[str]:
        """The names of the buttons that every such page has."""
        names = self._wording.buttons
        if self.page is Page.RESULTS:
            more = self.number * self._shop.window < len(self._found)
            return [names.search, *([names.next] if more else []), *([names.previous] if self.number > 1 else [])]
        if self.page is Page.ITEM:
            return [names.search, names.previous, *names.details, names.buy]
        return [names.search, names.previous] if self.page is Page.DETAIL else []

    def buttons(self) -> list[str]:
        """Everything that can be clicked, fixed buttons first."""
        if self.page is Page.RESULTS:
            return [*self.fixed(), *(product.id for product in self.shown())]
        if self.page is Page.ITEM and self.product is not None:
            return [*self.fixed(), *(value for values in self.product.options.values() for value in values)]
        return self.fixed()

    def read(self) -> str:
        """What the page says."""
        say, product = self._wording, self.product
        if self.page is Page.RESULTS:
            return say.results(self._instruction, self.shown(), self.number, len(self._found), self.fixed())
        if self.page is Page.ITEM and product is not None:
            return say.item(self._instruction, product, self.chosen)
        if self.page is Page.DETAIL and product is not None:
            return say.detail(self._instruction, product, self._detail)
        return say.front(self._instruction)

    def search(self, words: str) -> None:
        """Search for the words; the first page of what was found is next."""
        self.words = words
        self._found = self._shop.find(words)
        self.number = 1
        self.page = Page.RESULTS

    def click(self, button: str) -> None:
        """Press one of ``buttons``, as it is written there."""
        names = self._wording.buttons
        if button == names.search:
            self.page = Page.FRONT
        elif button == names.previous:
            self._go_back()
        elif self.page is Page.RESULTS:
            self._turn_or_open(button)
        elif button == names.buy:
            self.page = Page.BOUGHT
        elif button in names.details:
            self.page, self._detail = Page.DETAIL, button
        else:
            self._choose(button)

    def _go_back(self) -> None:
        if self.page is Page.RESULTS:
            self.number -= 1
        self.page = Page.ITEM if self.page is Page.DETAIL else Page.RESULTS

    def _turn_or_open(self, button: str) -> None:
        opened = next((product for product in self.shown() if product.id == button), None)
        if opened is None:
            self.number += 1
            return
        self.page, self.product, self.chosen = Page.ITEM, opened, {}

    def _choose(self, value: str) -> None:
        axes = self.product.options if self.product is not None else {}
        self.chosen = {**self.chosen, **{axis: value for axis, values in axes.items() if value in values}}
