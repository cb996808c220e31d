"""Recipes, and what follows from them: what can be got, what has to be crafted, and how deep."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import NamedTuple


class Recipe(NamedTuple):
    """``number`` of an item from so many of each part: an item, or a kind that stands for any one of its items."""

    item: str
    number: int
    parts: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        return craft(self.item, self.number, self.parts)


def craft(item: str, count: int, parts: Iterable[tuple[str, int]]) -> str:
    """The action that crafts."""
    return f"craft {count} {item} using {', '.join(f'{number} {part}' for part, number in parts)}"


class Book:
    """Recipes and kinds. An item that no recipe makes is a base item, and every other one comes down to these.

    A recipe is left out that starts from something at least as deep as what it makes, so that no recipes go in circles,
    as a block from ingots and ingots from the block.
    """

    def __init__(self, recipes: Iterable[Recipe], kinds: Mapping[str, Sequence[str]]) -> None:
        self.kinds = {kind: tuple(items) for kind, items in kinds.items()}
        every = tuple(recipes)
        made = {recipe.item for recipe in every}
        named = {part for recipe in every for part, _ in recipe.parts} - self.kinds.keys()
        named |= {item for items in self.kinds.values() for item in items}
        self.base = frozenset(named - made)
        self.depths = self._climb(every)
        self.recipes = tuple(recipe for recipe in every if recipe.item in self.depths and self._above(recipe))
        self.making: dict[str, list[Recipe]] = {}
        self.using: dict[str, list[Recipe]] = {}
        for recipe in self.recipes:
            self.making.setdefault(recipe.item, []).append(recipe)
            for part, _ in recipe.parts:
                self.using.setdefault(part, []).append(recipe)
        self.best: dict[str, Recipe] = {}
        for recipe in sorted(self.recipes, key=lambda recipe: (self._below(recipe), len(recipe.parts), str(recipe))):
            self.best.setdefault(recipe.item, recipe)

    def depth(self, name: str) -> int:
        """How many recipes lie between base items and an item at least; of a kind, its nearest item's."""
        return min(self.depths[item] for item in self.kinds.get(name, (name,)) if item in self.depths)

    def nearest(self, kind: str) -> list[str]:
        """The items of a kind that are the least deep."""
        least = self.depth(kind)
        return [item for item in self.kinds[kind] if self.depths.get(item) == least]

    def find(self, item: str, count: int, given: Mapping[str, int]) -> Recipe | None:
        """The recipe that makes so many of an item from exactly what is given, one item for each kind."""
        recipes = (recipe for recipe in self.making.get(item, []) if recipe.number == count)
        return next((recipe for recipe in recipes if self._fits(recipe, given)), None)

    def _fits(self, recipe: Recipe, given: Mapping[str, int]) -> bool:
        left = dict(given)
        for part, number in sorted(recipe.parts, key=lambda part: part[0] in self.kinds):
            used = next((item for item in self.kinds.get(part, (part,)) if left.get(item) == number), None)
            if used is None:
                return False
            del left[used]
        return not left

    def _climb(self, recipes: Sequence[Recipe]) -> dict[str, int]:
        """Depths of all items that can be reached, level by level."""
        depths = dict.fromkeys(self.base, 0)
        for level in range(1, len(recipes) + 1):
            reached = depths.keys() | {
                kind for kind, items in self.kinds.items() if not depths.keys().isdisjoint(items)
            }
            new = {
                recipe.item for recipe in recipes if all(part in reached for part, _ in recipe.parts)
            } - depths.keys()
            if not new:
                break
            depths |= dict.fromkeys(new, level)
        return depths

    def _below(self, recipe: Recipe) -> int:
        """The depth of the deepest part."""
        return max(self.depth(part) for part, _ in recipe.parts)

    def _above(self, recipe: Recipe) -> bool:
        """Whether each part can be had without the item that is made."""
        reachable = all(any(item in self.depths for item in self.kinds.get(p, (p,))) for p, _ in recipe.parts)
        return reachable and self._below(recipe) < self.depths[recipe.item]


@cache
def own() -> Book:
    """The recipes of this package: a selection in the manner of Minecraft's."""
    data = json.loads(files("environments.textcraft").joinpath("recipes.json").read_text(encoding="utf-8"))
    recipes = (Recipe(item, count, tuple(parts.items())) for item, count, parts in data["recipes"])
    return Book(recipes, data["kinds"])
