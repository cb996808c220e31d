"""The generated store as an environment: the full one, and a small one with short pages."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

from environments.contract import Episode
from environments.dealing import Bank, Dealt, deal, digest_of, split_of
from environments.episode import TextEnvironment, check_owner
from environments.webshop.catalogue import SMALL_OF_A_KIND, catalogue, small_catalogue
from environments.webshop.goals import Shop, draw, family, goal_of, key, small_goals
from environments.webshop.pages import Long, Short, Wording
from environments.webshop.products import Product, all_texts
from environments.webshop.reward import Goal
from environments.webshop.shopping import Shopping
from rl.records import ScenarioRef


@cache
def full_store() -> Shop:
    """The store of 1,200 products, ten to a page."""
    return Shop(catalogue(), window=10, document=all_texts)


@cache
def small_store() -> Shop:
    """The store of 27 products, three to a page, found by their nouns alone.

    A search finds the three products of a noun in no order that helps: attributes and price have to be read.
    """
    return Shop(small_catalogue(), window=SMALL_OF_A_KIND, document=lambda product: product.query)


@cache
def small_bank() -> Bank[Goal]:
    """All goals of the small store, each once."""
    goals = [goal for product in small_catalogue() for goal in small_goals(product)]
    return Bank({digest_of(key(goal)): goal for goal in goals})


class WebShop(TextEnvironment):
    """1,200 products of 24 kinds; a goal names two or three attributes, every option and a limit."""

    name = "webshop"
    system = (
        "You shop in a web store for what an instruction asks. Reply with one action a turn, on a line of its own:\n"
        "search[words] on the page with the search bar,\n"
        "click[button] with a product's code, the value of an option, or Back to Search, Next >, < Prev, Description, "
        "Features, Attributes or Buy Now, where the page has it.\n"
        "Choose the options that the instruction names before you click Buy Now, which ends the visit. "
        "You may think first; then begin the line with Action:"
    )
    max_turns = 10
    max_tokens = 256
    plan_turns = 7
    """Turns that the oracle may need; goals that take it more are not dealt."""

    patient = True
    """Whether a visit goes on after what cannot be done."""

    wording: Wording = Long()
    store: Callable[[], Shop] = staticmethod(full_store)
    goal_of: Callable[[Random, Product], Goal] = staticmethod(goal_of)
    family: Callable[[Goal], list[Any]] = staticmethod(family)
    """What no two splits share of their goals, besides the goals themselves."""

    def open(self, ref: ScenarioRef) -> Episode:
        """A fresh episode of the scenario.

        Raises:
            InvalidInput: the scenario belongs to another environment.
        """
        check_owner(self, ref)
        return Shopping(self, ref, self.dealt(ref), self.store(), self.wording, self.patient)

    def dealt(self, ref: ScenarioRef) -> Dealt[Goal]:
        """The scenario's goal."""
        shop = self.store()

        def belongs(goal: Goal) -> bool:
            return split_of(digest_of(self.family(goal))) == ref.split

        return deal(ref, lambda chance: draw(chance, shop, self.goal_of, belongs, self.plan_turns), key)


class WebShopSmall(WebShop):
    """27 products of 9 kinds; a goal names one or two attributes, a color and a limit.

    What any split asks for is on the same shelves: a split has its goals for itself, and nothing else.
    """

    name = "webshop-small"
    profile = "small"
    system = "Reply search[words] or click[button]."
    max_turns = 5
    max_tokens = 12
    plan_turns = 4
    patient = False
    wording: Wording = Short()
    store = staticmethod(small_store)

    def scenarios(self, split: str) -> int | None:
        """How many goals the split has."""
        return small_bank().size(split)

    def dealt(self, ref: ScenarioRef) -> Dealt[Goal]:
        """The scenario's goal.

        Raises:
            InvalidInput: the split has no such seed.
        """
        return small_bank().deal(ref)
