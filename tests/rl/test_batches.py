"""Which episodes the steps of a training take, and that their places alone tell."""

from __future__ import annotations

import tracemalloc
from itertools import islice
from typing import Any

import pytest
from pydantic import TypeAdapter

from rl.batches import batches, curated_batches, places_taken, total_steps
from rl.config import TrainConfig
from rl.lessons import Learner, in_order
from rl.objective_parts import Ptx

CONFIG: TypeAdapter[TrainConfig] = TypeAdapter(TrainConfig)
NAMES = [f"episode {place}" for place in range(64)]


def config(objective: str, **fields: object) -> Any:
    return CONFIG.validate_python({"objective": objective, "optimizer": {"learning_rate": 0.001}} | fields)


@pytest.mark.parametrize(
    ("objective", "fields", "count"),
    [
        ("sft", {"steps": 2, "batch_episodes": 4}, 8),
        ("weighted_sft", {"steps": 2, "batch_episodes": 4}, 8),
        ("dpo", {"steps": 2, "batch_pairs": 4}, 16),
        ("sft", {"steps": 2, "batch_episodes": 100}, 64),
        ("grpo", {"mini_batches": 4}, 64),
    ],
)
def test_places_are_those_of_the_episodes_that_the_steps_take(
    objective: str, fields: dict[str, object], count: int
) -> None:
    asked = config(objective, **fields)
    steps = list(batches(NAMES, asked, 40))
    assert len(steps) == total_steps(asked, 64)
    places = places_taken(batches(range(64), asked, 40), len(steps), 64)
    assert {NAMES[place] for place in places} == {name for step in steps for name in step}
    assert len(places) == count


def test_a_seed_and_a_place_in_the_lineage_draw_the_same_for_ever() -> None:
    seven = config("sft", steps=6, batch_episodes=3, seed=5)
    assert list(batches(range(7), seven, 40)) == [[2, 6, 3], [1, 4, 0], [4, 2, 0], [1, 6, 5], [0, 3, 2], [4, 5, 1]]
    pairs = config("dpo", steps=4, batch_pairs=2, seed=5)
    assert [[*each] for each in batches(range(10), pairs, 40)] == [
        [4, 5, 8, 9],
        [2, 3, 0, 1],
        [0, 1, 6, 7],
        [4, 5, 2, 3],
    ]
    fewer = config("sft", steps=3, batch_episodes=4, seed=5)
    assert list(batches(range(3), fewer, 40)) == [[1, 2, 0], [2, 0, 1], [0, 1, 2]]
    rule = Ptx(coefficient=0.5, source="jsonl:///curated.jsonl", batch_episodes=2)
    beside = curated_batches(range(5), rule, config("grpo", seed=5), 40)
    assert list(islice(beside, 5)) == [[3, 1], [2, 0], [1, 3], [2, 4], [2, 0]]


def test_a_step_copies_its_batch_and_not_what_is_left_of_the_pass() -> None:
    steps = batches(range(200_000), config("sft", steps=50_000, batch_episodes=4), 0)
    next(steps)
    tracemalloc.start()
    try:
        assert sum(len(batch) for batch in islice(steps, 100)) == 400
        assert tracemalloc.get_traced_memory()[1] < 100_000, "bytes; the rest of the pass has 1.6 million"
    finally:
        tracemalloc.stop()


def test_what_is_left_of_a_pass_is_not_taken() -> None:
    steps = batches(range(64), config("sft", steps=3, batch_episodes=24), 0)
    assert 48 < len(places_taken(steps, 3, 64)) < 64, "the third batch is of another pass, and meets old and new ones"


def test_an_earlier_checkpoint_took_less() -> None:
    asked = config("grpo", mini_batches=4)
    assert [len(places_taken(batches(range(64), asked, 0), steps, 64)) for steps in range(5)] == [0, 16, 32, 48, 64]


def test_curated_episodes_are_drawn_beside_by_another_order() -> None:
    rule = Ptx(coefficient=0.5, source="jsonl:///curated.jsonl", batch_episodes=4)
    steps = list(islice(curated_batches(NAMES, rule, config("grpo"), 7), 3))
    places = places_taken(curated_batches(range(64), rule, config("grpo"), 7), 3, 64)
    assert len(places) == 12
    assert {NAMES[place] for place in places} == {name for step in steps for name in step}


def test_nothing_is_taken_of_nothing() -> None:
    for asked in (config("sft", steps=9), config("dpo", steps=9), config("grpo")):
        assert places_taken(batches(range(0), asked, 0), 9, 0) == frozenset()


def test_episodes_stand_in_the_order_of_their_rows_or_pairs() -> None:
    rows = [Learner(*one) for one in (("a1", "a", 0.0), ("a2", "a", 1.0), ("b1", "b", 0.5), ("b2", "b", 0.25))]
    assert in_order(config("sft", steps=1, min_score=0.5), rows) == ["a2", "b1"]
    assert in_order(config("weighted_sft", steps=1), rows) == ["a1", "a2", "b1", "b2"]
    assert in_order(config("dpo", steps=1, min_margin=0.5), rows) == ["a2", "a1"]
