from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from functools import cache
from random import Random
from typing import NamedTuple

import pytest

from environments.dealing import digest_of
from environments.webshop.catalogue import small_catalogue
from environments.webshop.environment import WebShop, WebShopSmall, full_store
from environments.webshop.goals import goal_of, plan, small_goals
from environments.webshop.kinds import SMALL_COLORS
from environments.webshop.reward import Goal
from environments.webshop.shopping import Shopping
from rl.errors import InvalidInput
from rl.records import ScenarioRef

ENVIRONMENTS = {"webshop": WebShop(), "webshop-small": WebShopSmall()}
names = pytest.mark.parametrize("name", list(ENVIRONMENTS))
SPLITS = ("train", "validation", "held_out")
SIZES = {"train": 1479, "validation": 762, "held_out": 719}


def _open(name: str, split: str, seed: int) -> Shopping:
    ref = ScenarioRef.model_validate({"environment": name, "split": split, "seed": seed})
    episode = ENVIRONMENTS[name].open(ref)
    assert isinstance(episode, Shopping)
    return episode


class Dealt(NamedTuple):
    digest: str
    opening: str
    family: str
    type: str


@cache
def _dealt(name: str, split: str) -> list[Dealt]:
    """The first scenarios of a split: 300 of the full store, all of the small one."""
    episodes = [_open(name, split, seed) for seed in range(ENVIRONMENTS[name].scenarios(split) or 300)]
    families = [digest_of(WebShop.family(episode._goal)) for episode in episodes]
    return [
        Dealt(episode.content_hash, episode.messages[-1].content or "", family, episode.type)
        for episode, family in zip(episodes, families, strict=True)
    ]


@names
def test_splits_share_nothing(name: str) -> None:
    hashes = [{dealt.digest for dealt in _dealt(name, split)} for split in SPLITS]
    assert sum(map(len, hashes)) == len(set.union(*hashes))
    openings = [{dealt.opening for dealt in _dealt(name, split)} for split in SPLITS]
    assert sum(map(len, openings)) == len(set.union(*openings))


def test_splits_of_the_full_store_share_no_product() -> None:
    families = [{dealt.family for dealt in _dealt("webshop", split)} for split in SPLITS]
    assert sum(map(len, families)) == len(set.union(*families))


@names
def test_the_same_hash_reads_the_same_and_another_does_not(name: str) -> None:
    pairs = {(dealt.digest, dealt.opening) for split in SPLITS for dealt in _dealt(name, split)}
    assert len({digest for digest, _ in pairs}) == len(pairs) == len({opening for _, opening in pairs})


def test_types_are_kinds_of_products() -> None:
    assert len({dealt.type for dealt in _dealt("webshop", "train")}) == 24
    assert len({dealt.type for dealt in _dealt("webshop-small", "train")}) == 9


def test_small_goals_are_short() -> None:
    said = [dealt.opening.splitlines()[0] for dealt in _dealt("webshop-small", "train")]
    assert max(len(line.split()) for line in said) <= 15


DEALS = """
from environments.webshop.catalogue import small_catalogue
from environments.webshop.environment import WebShop, WebShopSmall
from rl.records import ScenarioRef
for environment in (WebShop(), WebShopSmall()):
    for seed in range(5):
        episode = environment.open(ScenarioRef(environment=environment.name, split="train", seed=seed))
        print(episode.content_hash, episode.step(episode.oracle()), episode.oracle())
"""


def test_every_process_deals_the_same() -> None:
    said = {
        subprocess.run(
            [sys.executable, "-c", DEALS],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1
    assert len(said.pop().splitlines()) == 10


def test_no_drawn_goal_has_to_be_drawn_again() -> None:
    shop = full_store()
    chance = Random(0)
    for _ in range(300):
        target = chance.choice(shop.products)
        goal = goal_of(chance, target)
        found = plan(shop, goal)
        assert found is not None
        assert found.turns <= WebShop.plan_turns
        assert target.cents < goal.cents <= target.cents + 4000
        assert f"{goal.cents // 100}.00 dollars" in goal.instruction


def test_the_small_store_has_this_many_goals_each_once() -> None:
    assert {split: len(_dealt("webshop-small", split)) for split in SPLITS} == SIZES
    assert len({dealt.digest for split in SPLITS for dealt in _dealt("webshop-small", split)}) == sum(SIZES.values())


def test_a_split_of_the_small_store_has_no_more_goals() -> None:
    with pytest.raises(InvalidInput, match="webshop-small has 719 scenarios of this split"):
        _open("webshop-small", "held_out", SIZES["held_out"])


def test_kinds_and_products_are_spread_evenly_over_the_splits_of_the_small_store() -> None:
    """A kind has a ninth of a split's goals, give or take a quarter of it, and every product is asked for."""
    for split in SPLITS:
        goals = [_open("webshop-small", split, seed)._goal for seed in range(SIZES[split])]
        kinds = Counter(goal.target.kind for goal in goals)
        assert all(abs(kinds[kind] * 9 / len(goals) - 1) < 0.25 for kind in kinds), (split, kinds)
        assert len(kinds) == 9
        asked = {(goal.target.kind, goal.attributes) for goal in goals}
        assert asked == {(goal.target.kind, goal.attributes) for goal in _small_goals()}
        assert {goal.options for goal in goals} == {(color,) for color in SMALL_COLORS}


def _small_goals() -> list[Goal]:
    return [goal for product in small_catalogue() for goal in small_goals(product)]
