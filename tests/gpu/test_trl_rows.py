from __future__ import annotations

from typing import Any

import pytest
import torch

from gpu.episodes import Episode
from gpu.trl_rows import Row, Shape, grpo_inputs, parts_of, refuse_cut, sft_examples, shape_of
from rl.errors import InvalidInput
from rl.objectives import Dapo, DrGrpo, Grpo, Gspo, OnPolicy
from rl.records import Sequence
from rl.training import Optimizer

RATE = Optimizer(learning_rate=1e-3)


def sequence(ids: list[int], mask: list[int]) -> Sequence:
    return Sequence(episode=0, ids=ids, mask=mask, logprobs=[-0.5 * spoken for spoken in mask])


ONE = Episode([sequence([5, 6, 7, 8, 9], [0, 0, 1, 0, 1])], advantage=2.0)
TWO = Episode([sequence([4, 3], [0, 1]), sequence([4, 2, 1], [0, 1, 1])], advantage=-1.0)


@pytest.mark.parametrize(
    ("budget", "rows", "accumulation"), [(1, 1, 3), (9, 1, 3), (10, 2, 2), (14, 2, 2), (15, 3, 1), (1000, 3, 1)]
)
def test_the_budget_becomes_rows_of_the_widest_sequence(budget: int, rows: int, accumulation: int) -> None:
    assert shape_of([[ONE], [ONE, TWO]], budget) == Shape(rows, accumulation, 5)


def test_an_update_is_cut_into_equally_many_parts() -> None:
    first, second = parts_of([ONE, TWO], Shape(2, 2, 5))
    assert first.rows == [Row(ONE.sequences[0], ONE)]
    assert second.rows == [Row(TWO.sequences[0], TWO), Row(TWO.sequences[1], TWO)]
    filler, real = parts_of([ONE], Shape(1, 2, 5))
    assert (filler.rows[0].counted, real.rows[0].counted) == (False, True)
    assert filler.rows[0].mask == [0, 0, 0, 0, 0]


def test_only_what_was_spoken_has_a_label() -> None:
    (part,) = parts_of([ONE], Shape(1, 1, 5))
    assert sft_examples(part) == [{"input_ids": [5, 6, 7, 8, 9], "labels": [-100, -100, 7, -100, 9]}]


def test_prompts_are_padded_on_the_left_and_completions_on_the_right() -> None:
    (part,) = parts_of([ONE, TWO], Shape(3, 1, 5))
    inputs = grpo_inputs(part, Dapo(optimizer=RATE), pad=0)
    expected: dict[str, Any] = {
        "prompt_ids": [[5, 6], [0, 4], [0, 4]],
        "prompt_mask": [[1, 1], [0, 1], [0, 1]],
        "completion_ids": [[7, 8, 9], [3, 0, 0], [2, 1, 0]],
        "completion_mask": [[1, 1, 1], [1, 0, 0], [1, 1, 0]],
        "tool_mask": [[1, 0, 1], [1, 0, 0], [1, 1, 0]],
        "old_per_token_logps": [[-0.5, 0.0, -0.5], [-0.5, 0.0, 0.0], [-0.5, -0.5, 0.0]],
        "advantages": [2.0, -1.0, -1.0],
        "num_items_in_batch": 5,
    }
    assert {name: value.tolist() for name, value in inputs.items()} == expected
    assert inputs["completion_ids"].dtype == torch.long


@pytest.mark.parametrize(
    ("config", "advantages"),
    [
        # Three rows of two episodes: TRL divides by 3, ours by 2, and TWO's rows hold 1 and 2 of its 3 tokens.
        (Grpo(optimizer=RATE), [2.0 * 3 / 2, -1.0 * 3 / 2 / 3, -1.0 * 3 / 2 * 2 / 3]),
        (DrGrpo(optimizer=RATE, max_tokens=9), [2.0 * 3 / 2, -1.0 * 3 / 2, -1.0 * 3 / 2]),
    ],
)
def test_advantages_make_a_mean_over_rows_one_over_episodes(config: OnPolicy, advantages: list[float]) -> None:
    (part,) = parts_of([ONE, TWO], Shape(3, 1, 5))
    assert grpo_inputs(part, config, 0)["advantages"].tolist() == pytest.approx(advantages)
    # In two micro-batches, of one row and of two, TRL divides by 2 once more.
    first, second = parts_of([ONE, TWO], Shape(2, 2, 5))
    cut = [*grpo_inputs(first, config, 0)["advantages"], *grpo_inputs(second, config, 0)["advantages"]]
    assert [float(one) for one in cut] == pytest.approx(
        [advantages[0] * 2 / 3, advantages[1] * 4 / 3, advantages[2] * 4 / 3]
    )


def test_a_ratio_a_sample_needs_one_row_a_sample() -> None:
    refuse_cut([ONE, TWO], Grpo(optimizer=RATE))
    refuse_cut([ONE], Gspo(optimizer=RATE))
    with pytest.raises(InvalidInput, match="objective = 'gspo': 1 episodes are several sequences"):
        refuse_cut([ONE, TWO], Gspo(optimizer=RATE))
