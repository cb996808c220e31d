from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from environments import settings
from environments.webshop.original import ATTRIBUTES, INSTRUCTIONS, PRODUCTS, WebShopOriginal, load
from rl.errors import InvalidInput, MissingDependency
from rl.records import ScenarioRef


def _item(asin: str, name: str, **changes: Any) -> dict[str, Any]:
    item = {
        "asin": asin,
        "name": name,
        "category": "fashion",
        "query": "Men's Shirts ",
        "product_category": "Clothing \u203a Men \u203a Shirts",
        "full_description": "A shirt for the office.",
        "small_description": ["Cotton", "Button closure"],
        "pricing": "$25.00",
        "customization_options": {
            "Color": [{"value": " Navy ", "image": None}, {"value": "White/Blue", "image": None}],
            "Size": [{"value": "Large"}, {"value": "X-Large"}],
            "Fit Type": None,
        },
        "images": ["image.jpg"],
    }
    return {**item, **changes}


def _asked(instruction: str, attributes: list[str], options: list[str]) -> dict[str, Any]:
    return {
        "asin": "B000000001",
        "instruction": instruction,
        "attributes": ["long sleeve", "easy care"],
        "options": ["color: navy"],
        "instruction_attributes": attributes,
        "instruction_options": options,
        "worker_id": "w",
        "assignment_id": "a",
    }


ITEMS = [
    _item("B000000001", "Hardy Oxford Shirt"),
    _item("B000000001", "The same code again"),
    _item("B000000002", "Linen Shirt", pricing=None, customization_options="", small_description="One line"),
    _item("B000000003", "Silk Tie", pricing="$5.50$12.00", query="ties", product_category="Clothing"),
    _item("B000000004", "Gold Watch", pricing="$1,250.00", query="watches", product_category="Jewelry"),
    _item("B00000000015", "A code that is too long"),
    _item("nan", "No code"),
]
KNOWN = {
    "B000000001": {"attributes": ["long sleeve", "easy care"], "instruction": "Find it", "instruction_attributes": []},
    "B000000002": {"attributes": []},
    "B000000004": {"attributes": ["water resistant"]},
}
ASKED = {
    "B000000001": [
        _asked("i want a long sleeve oxford shirt in navy.", ["long sleeve"], ["navy", "large"]),
        _asked("an easy care oxford shirt", ["easy care"], ["Color: white | blue"]),
        _asked("nothing is asked", [], []),
        _asked("an oxford shirt that flies", ["rocket powered"], []),
    ],
    "B000000004": [_asked("a water resistant watch", ["water resistant"], [])],
    "B000000009": [_asked("a product that is not there", ["x"], [])],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, content in ((PRODUCTS, ITEMS), (ATTRIBUTES, KNOWN), (INSTRUCTIONS, ASKED)):
        (tmp_path / name).write_text(json.dumps(content))
    monkeypatch.setenv("RLFLEET_WEBSHOP_DATA", str(tmp_path))
    settings.settings.cache_clear()
    yield tmp_path
    settings.settings.cache_clear()


def test_products_are_read(folder: Path) -> None:
    shop, _ = load(folder)
    shirt, linen, tie, watch = shop.products
    assert (shirt.title, shirt.query, shirt.kind, shirt.cents) == (
        "Hardy Oxford Shirt",
        "men's shirts",
        "fashion",
        2500,
    )
    assert shirt.path == ("Clothing", "Men", "Shirts")
    assert shirt.options == {"color": ("navy", "white | blue"), "size": ("large", "x-large")}
    assert shirt.attributes == ("long sleeve", "easy care")
    assert (linen.cents, linen.options, linen.bullets, linen.attributes) == (10_000, {}, ("One line",), ())
    assert (tie.cents, tie.attributes, watch.cents) == (1200, (), 125_000)


def test_goals_are_what_people_asked_for(folder: Path) -> None:
    _, goals = load(folder)
    assert [goal.target.id for goal in goals] == ["B000000001"] * 3 + ["B000000004"]
    first, second, _, dear = goals
    assert first.instruction.startswith("i want a long sleeve oxford shirt in navy, and the price must not exceed ")
    assert first.words == "i want a long sleeve oxford shirt in navy"
    assert first.options == ("navy", "large")
    assert second.options == ("white | blue",)
    assert {goal.cents for goal in goals[:3]} <= {4000, 5000, 6000}
    assert dear.instruction == "a water resistant watch"
    assert dear.cents > 125_000


def _refs() -> Iterator[ScenarioRef]:
    environment = WebShopOriginal()
    for split in ("train", "validation", "held_out"):
        for seed in range(environment.scenarios(split) or 0):
            yield ScenarioRef.model_validate({"environment": "webshop-original", "split": split, "seed": seed})


@pytest.mark.usefixtures("folder")
def test_the_oracle_solves_every_goal_that_is_dealt() -> None:
    hashes = set()
    for ref in _refs():
        episode = WebShopOriginal().open(ref)
        hashes.add(episode.content_hash)
        step = episode.step(episode.oracle())
        while not step.done:
            step = episode.step(episode.oracle())
        assert step.reward == 1.0
        assert episode.type == "fashion"
    assert len(hashes) == 3, "the shirt that flies cannot be bought"


@pytest.mark.usefixtures("folder")
def test_a_seed_beyond_the_last_is_refused() -> None:
    environment = WebShopOriginal()
    ref = ScenarioRef(environment="webshop-original", split="train", seed=environment.scenarios("train") or 0)
    with pytest.raises(InvalidInput, match="scenarios of this split"):
        environment.open(ref)


def test_a_missing_folder_says_what_to_get(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RLFLEET_WEBSHOP_DATA", raising=False)
    settings.settings.cache_clear()
    with pytest.raises(MissingDependency, match=r"items_shuffle_1000\.json.*RLFLEET_WEBSHOP_DATA"):
        WebShopOriginal().scenarios("train")
    settings.settings.cache_clear()


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / ATTRIBUTES).unlink()
    with pytest.raises(MissingDependency, match=ATTRIBUTES):
        load(folder)


@pytest.mark.parametrize("content", ["{", "[1]", '[{"asin": "B1"}]', '{"a": 1}'])
def test_a_file_of_another_form_is_refused(folder: Path, content: str) -> None:
    (folder / PRODUCTS).write_text(content)
    with pytest.raises(InvalidInput, match="RLFLEET_WEBSHOP_DATA"):
        load(folder)
