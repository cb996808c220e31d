"""What a group teaches, and which tokens are masked, worked out by hand."""

from __future__ import annotations

import math

import pytest
from pydantic import TypeAdapter

from rl.config import TrainConfig
from rl.lessons import Learner, lessons, needs_all
from rl.records import Call, Message
from rl.token_spans import Spans, spans

CONFIG: TypeAdapter[TrainConfig] = TypeAdapter(TrainConfig)
GROUP = [Learner("a1", "g", 1.0, 2), Learner("a2", "g", 0.0, 4), Learner("a3", "g", 0.5, 4)]


def config(objective: str, **fields: object) -> TrainConfig:
    return CONFIG.validate_python({"objective": objective, "optimizer": {"learning_rate": 0.001}} | fields)


def test_a_group_is_normalised_by_its_unbiased_deviation() -> None:
    found = lessons(config("grpo"), GROUP)
    assert [one.advantage for one in found] == pytest.approx([1.0, -1.0, 0.0])
    assert [one.is_trained for one in found] == [True, True, False]
    assert found[2].words == "no advantage in its group"


def test_the_others_of_a_group_are_the_baseline() -> None:
    found = lessons(config("rloo"), GROUP)
    assert [one.advantage for one in found] == pytest.approx([0.75, -0.75, 0.0])


def test_weights_grow_with_the_advantage_up_to_a_cap() -> None:
    found = lessons(config("weighted_sft", steps=1, weight_temperature=0.25, weight_cap=5.0), GROUP)
    assert [one.weight for one in found] == pytest.approx([5.0, math.exp(-2), 1.0])
    assert [one.advantage for one in found] == [0.5, -0.5, 0.0]


def test_a_whole_dataset_is_needed_where_advantages_are_whitened_or_pooled() -> None:
    asked = [config("grpo"), config("grpo", lone="pooled"), config("reinforce_baseline"), config("ppo")]
    assert [needs_all(one) for one in asked] == [False, True, True, False]
    assert lessons(config("ppo"), GROUP)[0].advantage is None


def call(prompt: list[int] | None, answer: list[int] | None) -> Call:
    return Call(
        call_id="c",
        turn=0,
        model="m",
        messages=[],
        response=Message(role="assistant", content="x"),
        prompt_token_ids=prompt,
        token_ids=answer,
        logprobs=None if answer is None else [-0.5] * len(answer),
    )


def test_a_turn_that_goes_on_repeats_what_was_said_and_a_branch_does_not() -> None:
    calls = [call([1, 2], [3]), call([1, 2, 3, 4], [5]), call([1, 9], [6]), call([1, 2], []), call(None, None)]
    found = spans(calls)
    assert [one.repeated if one else None for one in found] == [0, 3, 0, 0, None]
    assert found[1] == Spans([1, 2, 3, 4], 3, [5], [-0.5], is_silent=False)
    assert found[3] is not None
    assert found[3].is_silent
