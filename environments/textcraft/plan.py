"""The expert: what it takes to get from what there is to what is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from environments.textcraft.book import Book, Recipe, craft


class Plan:
    """Everything base that is missing is got first, each item at once; then one recipe is crafted after another.

    Of an item's recipes the one with the least deep parts is taken. For a kind it takes an item of which there is
    enough, else the one that ``choice`` names, else the first of the least deep ones.
    """

    def __init__(self, book: Book, choice: Mapping[str, str], have: Mapping[str, int], item: str, number: int) -> None:
        self._book = book
        self._choice = choice
        self._spare = Counter(have)
        self._gets: Counter[str] = Counter()
        self._crafts: list[str] = []
        self.recipes: dict[Recipe, None] = {}
        self._take(item, number)

    @property
    def actions(self) -> list[str]:
        """All that is left to do, in order."""
        return [f"get {number} {item}" for item, number in self._gets.items()] + self._crafts

    def _take(self, item: str, number: int) -> None:
        """Set so many of an item apart, and plan for what is missing."""
        if item in self._book.base:
            missing = max(0, number - self._spare[item])
            self._gets[item] += missing
            self._spare[item] += missing
        while self._spare[item] < number:
            recipe = self._book.best[item]
            parts = [(self._one_of(part, count), count) for part, count in recipe.parts]
            for part, count in parts:
                self._take(part, count)
            self._crafts.append(craft(item, recipe.number, parts))
            self.recipes[recipe] = None
            self._spare[item] += recipe.number
        self._spare[item] -= number
        self._gets += Counter()

    def _one_of(self, name: str, number: int) -> str:
        """The item that a part stands for."""
        if name not in self._book.kinds:
            return name
        plenty = (item for item in self._book.kinds[name] if self._spare[item] >= number)
        return next(plenty, None) or self._choice.get(name) or self._book.nearest(name)[0]
