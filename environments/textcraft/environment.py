"""Crafting as an environment: a drawn goal, its recipes among others, and some turns to make it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from random import Random
from typing import Any, NamedTuple

from environments.contract import Environment, Episode
from environments.dealing import Dealt, deal, digest_of
from environments.episode import TextEnvironment, TextEpisode, Took, action_of, check_owner
from environments.textcraft.bench import Bench
from environments.textcraft.book import Book, Recipe, craft, own
from environments.textcraft.plan import Plan
from rl.records import ScenarioRef


class Order(NamedTuple):
    """What is to be made, the recipes that are shown, in order, and the items that the expert uses for kinds."""

    goal: str
    number: int
    shown: tuple[Recipe, ...]
    choice: Mapping[str, str]

    def key(self) -> list[Any]:
        """What makes it the scenario that it is: not the order of the recipes."""
        return [self.goal, self.number, sorted(str(recipe) for recipe in self.shown)]


class Size(NamedTuple):
    """How large orders are: recipes beside those that are needed, recipes in all, crafts of the goal, actions."""

    depths: Sequence[int]
    others: int
    shown: int
    crafts: int
    actions: int


FULL = Size(depths=(1, 2, 3, 4), others=10, shown=24, crafts=3, actions=14)

TURN = ("train", "held_out", "train", "validation")


@cache
def goals(depth: int, split: str) -> list[str]:
    """The items of a depth that are asked for in a split, and in no other: of every four, in the order of their hashes,
    two are for training, one for validation, and one is held out.
    """
    book = own()
    items = sorted((item for item in book.best if book.depths[item] == depth), key=digest_of)
    return [item for place, item in enumerate(items) if TURN[place % len(TURN)] == split]


def draw(chance: Random, size: Size, depth: int, split: str) -> Order:
    """An order of that depth, drawn again until its plan is short enough."""
    book = own()
    while True:
        goal = chance.choice(goals(depth, split))
        choice = {kind: chance.choice(book.nearest(kind)) for kind in book.kinds}
        number = chance.randint(1, book.best[goal].number * chance.randint(1, size.crafts))
        plan = Plan(book, choice, {}, goal, number)
        if len(plan.actions) <= size.actions and len(plan.recipes) < size.shown:
            others = distract(book, chance, list(plan.recipes), min(size.others, size.shown - len(plan.recipes)))
            shown = [*plan.recipes, *others]
            chance.shuffle(shown)
            return Order(goal, number, tuple(shown), choice)


def distract(book: Book, chance: Random, needed: Sequence[Recipe], count: int) -> list[Recipe]:
    """So many recipes that are not needed; half have a part in common with a needed one, where there are."""
    alike = (other for recipe in needed for part, _ in recipe.parts for other in book.using[part])
    related = [recipe for recipe in dict.fromkeys(alike) if recipe not in needed]
    near = chance.sample(related, min(len(related), (count + 1) // 2))
    far = chance.sample(book.recipes, min(len(book.recipes), len(needed) + len(near) + count))
    return [*near, *(recipe for recipe in far if recipe not in near and recipe not in needed)][:count]


class TextCraft(TextEnvironment):
    """Goals up to four recipes deep, among ten other recipes."""

    name = "textcraft"
    profile = "own-recipes"
    system = (
        "You craft items. Each turn you take one action:\n"
        "get NUMBER ITEM takes an item that no recipe makes, as many as you want\n"
        "craft NUMBER ITEM using NUMBER ITEM, NUMBER ITEM follows a recipe once, with exactly its numbers\n"
        "inventory lists what you have\n"
        "Where a recipe asks for a kind, such as planks, use any one item of that kind and name it. "
        "You may think first; then begin the line with Action:"
    )
    max_turns = 20
    max_tokens = 256
    idle = "inventory"
    size: Size = FULL

    def open(self, ref: ScenarioRef) -> Episode:
        """A fresh episode of the scenario.

        Raises:
            InvalidInput: the scenario belongs to another environment.
        """
        check_owner(self, ref)
        depth = self.size.depths[ref.seed % len(self.size.depths)]
        dealt = deal(ref, lambda chance: draw(chance, self.size, depth, ref.split), Order.key)
        return Crafting(self, ref, own(), dealt)


class Crafting(TextEpisode):
    """One order being made."""

    def __init__(self, environment: Environment, ref: ScenarioRef, book: Book, dealt: Dealt[Order]) -> None:
        self._book = book
        self._order = order = dealt.content
        self._bench = Bench(book, Counter())
        super().__init__(environment, ref, dealt.digest, opening(book, order), f"depth{book.depths[order.goal]}")

    def _act(self, reply: str) -> Took:
        first, *_ = action_of(reply).splitlines() or [""]
        told = self._bench.do(first.strip(" .`'\""))
        return Took(told, 1.0, over=True) if self.solved else Took(told)

    @property
    def solved(self) -> bool:
        """Whether the goal is in the inventory."""
        return self._bench.have[self._order.goal] >= self._order.number

    def oracle(self) -> str:
        """The first action of a plan from what there is."""
        order = self._order
        return Plan(self._book, order.choice, self._bench.have, order.goal, order.number).actions[0]

    def guess(self, chance: Random) -> str:
        """A recipe that is shown, or one of its parts to get, in the number that it takes."""
        every = [craft(r.item, r.number, self._named(chance, r)) for r in self._order.shown]
        parts = [part for recipe in self._order.shown for part in self._named(chance, recipe)]
        every += [f"get {number} {item}" for item, number in parts if item in self._book.base]
        return chance.choice(every)

    def _named(self, chance: Random, recipe: Recipe) -> list[tuple[str, int]]:
        return [(chance.choice(self._book.kinds.get(part, (part,))), number) for part, number in recipe.parts]


def opening(book: Book, order: Order) -> str:
    """The recipes, the kinds that they name, and the goal."""
    named = {part for recipe in order.shown for part, _ in recipe.parts}
    kinds = [f"{kind}: {', '.join(items)}" for kind, items in book.kinds.items() if kind in named]
    return "\n".join([*map(str, order.shown), *kinds, f"Goal: {order.number} {order.goal}"])
