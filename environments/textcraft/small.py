"""Crafting for tiny models: few goals, named by what they are made of, in plans of two or three actions."""

from __future__ import annotations

from functools import cache
from itertools import product
from random import Random

from environments.contract import Episode
from environments.dealing import deal
from environments.episode import check_owner
from environments.textcraft.book import Book, own
from environments.textcraft.environment import Crafting, Order, TextCraft
from environments.textcraft.plan import Plan
from rl.records import ScenarioRef

WOODS = ("oak", "birch", "spruce", "jungle", "acacia")
WOODEN = ("planks", "wood", "button", "pressure plate", "slab")
METALS = ("iron", "golden", "diamond")
ARMOUR = ("boots", "helmet", "leggings", "chestplate")
GOALS = tuple(f"{stuff} {thing}" for stuff, thing in (*product(WOODS, WOODEN), *product(METALS, ARMOUR)))
DEPTHS = (1, 2)
SHOWN = 5


class TextCraftSmall(TextCraft):
    """One or two recipes deep, each of one part, of five that are shown."""

    name = "textcraft-small"
    profile = "small"
    system = "Reply with one action: get NUMBER ITEM, or a line that crafts. Get what no line crafts."
    max_turns = 4
    max_tokens = 20

    def open(self, ref: ScenarioRef) -> Episode:
        """A fresh episode of the scenario.

        Raises:
            InvalidInput: the scenario belongs to another environment.
        """
        check_owner(self, ref)
        depth = DEPTHS[ref.seed % len(DEPTHS)]
        dealt = deal(ref, lambda chance: draw_small(chance, depth), Order.key)
        return Crafting(self, ref, book(), dealt)


@cache
def book() -> Book:
    """The recipes of the goals; none names a kind."""
    return Book([own().best[goal] for goal in GOALS], {})


def draw_small(chance: Random, depth: int) -> Order:
    """An order of that depth for as many as one craft makes. All goals are in all splits, in different company."""
    recipes = book().best
    goal = chance.choice([goal for goal in GOALS if book().depths[goal] == depth])
    needed = list(Plan(book(), {}, {}, goal, 1).recipes)
    others = [recipe for recipe in recipes.values() if recipe not in needed]
    shown = [*needed, *chance.sample(others, SHOWN - len(needed))]
    chance.shuffle(shown)
    return Order(goal, recipes[goal].number, tuple(shown), {})
