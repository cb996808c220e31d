"""The published products and instructions, where the user has the files, in the pages and with the reward of ours.

The folder that ``RLFLEET_WEBSHOP_DATA`` names holds ``items_shuffle_1000.json`` (products),
``items_ins_v2_1000.json`` (their attributes) and ``items_human_ins.json`` (what people asked for).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from environments.contract import Episode
from environments.dealing import Bank, Dealt, digest_of
from environments.episode import check_owner
from environments.settings import settings
from environments.webshop.environment import WebShop
from environments.webshop.goals import Shop, key, plan
from environments.webshop.products import WORD, Product, all_texts
from environments.webshop.reward import Goal
from environments.webshop.shopping import Shopping
from rl.errors import InvalidInput, MissingDependency
from rl.records import ScenarioRef

PRODUCTS, ATTRIBUTES, INSTRUCTIONS = "items_shuffle_1000.json", "items_ins_v2_1000.json", "items_human_ins.json"
SEPARATOR = "\u203a"
"""Between the parts of a category, widest first."""

LADDER = range(1_000, 100_000, 1_000)
"""Cents: limits are multiples of 10 dollars below 1,000."""

NO_LIMIT = 100_000_000
"""Cents that a goal may cost whose product is too dear for the ladder."""

WITHOUT_PRICE = 10_000
"""Cents that a product costs whose price is not told."""


class WebShopOriginal(WebShop):
    """Published products and instructions. Goals that the oracle cannot reach in ten turns are left out."""

    name = "webshop-original"
    profile = "original"

    def scenarios(self, split: str) -> int | None:
        """How many goals the split has.

        Raises:
            MissingDependency: as ``open``.
            InvalidInput: as ``open``.
        """
        return _original(self._folder())[1].size(split)

    def open(self, ref: ScenarioRef) -> Episode:
        """A fresh episode of the scenario.

        Raises:
            InvalidInput: the scenario belongs to another environment, its split has no such seed, or a file is broken.
            MissingDependency: no folder is named, or a file is not in it.
        """
        check_owner(self, ref)
        shop, bank = _original(self._folder())
        return Shopping(self, ref, bank.deal(ref), shop, self.wording)

    def _folder(self) -> Path:
        folder = settings().webshop_data
        if folder is None:
            raise MissingDependency(
                f"webshop-original plays {PRODUCTS}, {ATTRIBUTES} and {INSTRUCTIONS} of the published WebShop: "
                "download them and set RLFLEET_WEBSHOP_DATA to their folder, or play webshop"
            )
        return folder


@cache
def _original(folder: Path) -> tuple[Shop, Bank[Goal]]:
    shop, goals = load(folder)
    reached = {digest_of(key(goal)): goal for goal in goals if reachable(shop, goal)}
    return shop, Bank(reached)


def reachable(shop: Shop, goal: Goal) -> bool:
    """Whether the oracle earns the whole reward within the turns of an episode: it plays one."""
    if plan(shop, goal) is None:
        return False
    ref = ScenarioRef(environment=WebShopOriginal.name, split="train", seed=0)
    episode = Shopping(WebShopOriginal(), ref, Dealt(goal, ""), shop, WebShopOriginal.wording)
    step = episode.step(episode.oracle())
    while not step.done:
        step = episode.step(episode.oracle())
    return step.reward >= WebShopOriginal.success


def load(folder: Path) -> tuple[Shop, list[Goal]]:
    """The store, and every goal of its people, in the order of the files.

    Raises:
        MissingDependency: a file is not there.
        InvalidInput: a file does not have the published form.
    """
    items, attributes, asked = (_read(folder / name) for name in (PRODUCTS, ATTRIBUTES, INSTRUCTIONS))
    try:
        usable = {item["asin"]: item for item in reversed(items) if _usable(item)}
        products = {code: _product(usable[code], attributes.get(code, {})) for code in reversed(usable)}
        goals = [goal for product in products.values() for goal in _goals(product, asked.get(product.id, []))]
        return Shop(tuple(products.values()), window=10, document=all_texts), goals
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        remedy = f"its files must have the published form ({error!r})"
        raise InvalidInput("RLFLEET_WEBSHOP_DATA", str(folder), remedy) from error


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingDependency(f"{path} is missing: RLFLEET_WEBSHOP_DATA names the folder that holds it") from None
    except ValueError as error:
        raise InvalidInput("RLFLEET_WEBSHOP_DATA", str(path), f"must be JSON ({error})") from error


def _usable(item: Mapping[str, Any]) -> bool:
    return item["asin"] != "nan" and len(item["asin"]) <= 10


def _product(item: Mapping[str, Any], known: Mapping[str, Any]) -> Product:
    bullets = item["small_description"] or []
    return Product(
        id=item["asin"],
        kind=item["category"],
        query=item["query"].lower().strip(),
        path=tuple(part.strip() for part in item["product_category"].split(SEPARATOR)),
        title=item["name"],
        brand=item.get("brand") or "",
        bullets=tuple(bullets) if isinstance(bullets, list) else (bullets,),
        description=item["full_description"] or "",
        attributes=tuple(known.get("attributes", ())),
        options=dict(_options(item.get("customization_options") or {})),
        cents=_cents(item.get("pricing") or ""),
    )


def _options(axes: Mapping[str, list[Mapping[str, Any]] | None]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for axis, values in axes.items():
        if values:
            yield axis.lower(), tuple(value["value"].strip().replace("/", " | ").lower() for value in values)


def _cents(pricing: str) -> int:
    """The price in cents; the upper one of a range, so that no option costs more than is said."""
    prices = [float(price.replace(",", "")) for price in re.findall(r"\$\s*([\d,]*\.?\d+)", pricing)]
    return round(100 * max(prices)) if prices else WITHOUT_PRICE


def _goals(product: Product, asked: list[Mapping[str, Any]]) -> Iterator[Goal]:
    """What people asked for, with a limit that the product's id and the place of the request decide."""
    for place, request in enumerate(asked):
        attributes = tuple(request["instruction_attributes"])
        if not attributes:
            continue
        options = tuple(_value(option, product) for option in request["instruction_options"])
        said = request["instruction"].strip().strip(".")
        cents = _limit(product.cents, Random(f"{product.id}/{place}"))
        ending = "" if cents is None else f", and the price must not exceed {cents / 100:.2f} dollars"
        words = " ".join(WORD.findall(said.lower()))
        yield Goal(product, attributes, options, cents or NO_LIMIT, said + ending, words)


def _value(option: str, product: Product) -> str:
    """The value of an option that may be written with its axis, as ``color: blue``."""
    axis, _, value = option.lower().partition(":")
    return value.strip() if value and axis.strip() in product.options else option.lower().strip()


def _limit(cents: int, chance: Random) -> int | None:
    """The larger of two of the next four limits above a price; None where fewer than two are left."""
    next_ones = [limit for limit in LADDER if limit > cents][:4]
    return max(chance.sample(next_ones, 2)) if len(next_ones) >= 2 else None
