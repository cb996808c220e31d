"""Drawing tokens: numbers computed by hand."""

import math

import pytest
import torch

from gpu.sampling import draw

LOGITS = torch.log(torch.tensor([[0.1, 0.2, 0.7]])) + 3.0


@pytest.mark.parametrize(
    ("uniform", "token"), [(0.0, 0), (0.099, 0), (0.101, 1), (0.299, 1), (0.301, 2), (0.9999999, 2)]
)
def test_a_number_falls_into_its_share_of_the_distribution(uniform: float, token: int) -> None:
    chosen, logprobs = draw(LOGITS, [1.0], [uniform])
    assert chosen == [token]
    assert logprobs == pytest.approx([math.log([0.1, 0.2, 0.7][token])], abs=1e-6)


def test_temperature_sharpens() -> None:
    # At 0.5 the shares are squared: 0.01, 0.04 and 0.49 of 0.54.
    chosen, logprobs = draw(LOGITS.expand(2, 3), [0.5, 0.5], [0.09, 0.1])
    assert chosen == [1, 2]
    assert logprobs == pytest.approx([math.log(0.04 / 0.54), math.log(0.49 / 0.54)], abs=1e-6)


def test_greedy_rows_take_the_likeliest_at_temperature_one_beside_others_or_alone() -> None:
    mixed = draw(LOGITS.expand(2, 3), [0.0, 1.0], [0.0, 0.05])
    assert mixed[0] == [2, 0]
    assert mixed[1] == pytest.approx([math.log(0.7), math.log(0.1)], abs=1e-6)
    alone = draw(LOGITS, [0.0], [0.0])
    assert alone[0] == [2]
    assert alone[1] == pytest.approx([math.log(0.7)], abs=1e-6)


def test_rare_tokens_of_a_large_vocabulary_can_be_drawn() -> None:
    logits = torch.zeros(1, 150_000)
    logits[0, 0] = math.log(150_000) + 10
    assert draw(logits, [1.0], [1 - 1e-12])[0] == [149_999]
    assert draw(logits, [1.0], [0.99])[0] == [0]
