from __future__ import annotations

import pytest

from rl.config import GrpoTrain, Lora, Optimizer
from rl.memory import GIB, Architecture, activations, gib, need, smaller

SMALL = Architecture(layers=2, hidden=10, feed_forward=30, query=8, key=4, vocabulary=100)
QWEN3_14B = Architecture(layers=40, hidden=5120, feed_forward=17408, query=5120, key=1024, vocabulary=151936)


def test_activations_of_full_training_in_float32() -> None:
    # norms 4 (20 + 12) = 128, inputs 4 (28 + 30) = 232, inner 4 (90 + 16 + 8) = 456, scaled 128; head 12 x 100
    assert activations(SMALL, 1, 4, adapters=False) == 2 * (128 + 232 + 456 + 128) + 1200
    assert activations(SMALL, 7, 4, adapters=False) == 7 * activations(SMALL, 1, 4, adapters=False)


def test_adapters_keep_float32_copies_on_a_narrower_base() -> None:
    assert activations(SMALL, 1, 4, adapters=True) == 2 * (128 + 232 + 456) + 1200
    # inputs 4 (50 + 8 + 30) = 352, inner 2 (90 + 16 + 8) = 228
    assert activations(SMALL, 1, 2, adapters=True) == 2 * (128 + 352 + 228) + 1200


def test_the_head_holds_a_bounded_number_of_logits() -> None:
    one_more = activations(SMALL, 4097, 4, adapters=False) - activations(SMALL, 4096, 4, adapters=False)
    assert one_more == 2 * (128 + 232 + 456 + 128)


def test_a_need_adds_up_and_reads_in_gibibytes() -> None:
    found = need(SMALL, weights=28 * GIB, trained=GIB // 2, tokens=2, activation_bytes=2, adapters=True)
    assert (found.gradients, found.optimizer, found.activations) == (GIB // 2, GIB, 2 * (2 * 708 + 1200))
    assert found.total == 28 * GIB + GIB // 2 + GIB + 5232
    assert str(found) == (
        "needs about 29.5 GiB: weights 28.0, gradients 0.5, optimizer 1.0, activations of one sequence of 2 tokens 0.0"
    )
    assert gib(int(1.25 * GIB)) == "1.2"


def test_fourteen_billion_parameters_at_four_thousand_tokens() -> None:
    """29.5 GB of bfloat16 weights, 64 M adapter parameters, 387,072 bytes a token and layer."""
    found = need(QWEN3_14B, weights=29_540_000_000, trained=256_000_000, tokens=4096, activation_bytes=2, adapters=True)
    assert found.activations == 4096 * 40 * 387_072 + 3 * 4 * 151936 * 4096
    assert str(found).startswith("needs about 94.2 GiB: weights 27.5, gradients 0.2, optimizer 0.5")


def ladder(original: dict[str, object], cuda: bool) -> list[dict[str, object]]:
    """Every change until nothing is left, each on top of those before."""
    changes: list[dict[str, object]] = []
    config = dict(original)
    while (change := smaller(config, original, cuda=cuda)) is not None:
        changes.append(change)
        config |= change
        assert len(changes) < 10
    return changes


HALVED: list[dict[str, object]] = [{"token_budget": 1536}, {"token_budget": 768}, {"token_budget": 384}]


@pytest.mark.parametrize(
    ("config", "cuda", "changes"),
    [
        ({"token_budget": 3072}, True, HALVED),
        ({}, False, HALVED),
        ({"token_budget": 3072, "lora": {"rank": 4}}, False, HALVED),
        ({"token_budget": 3072, "lora": {"rank": 4}}, True, [*HALVED, {"quantization": "4bit"}]),
        ({"token_budget": 3072, "lora": {"rank": 4}, "quantization": "4bit"}, True, HALVED),
        ({"token_budget": 300}, True, [{"token_budget": 150}, {"token_budget": 75}]),
        ({"token_budget": 128}, True, [{"token_budget": 64}]),
        ({"token_budget": 127, "lora": None}, True, []),
    ],
)
def test_the_ladder_of_smaller_attempts(
    config: dict[str, object], cuda: bool, changes: list[dict[str, object]]
) -> None:
    assert ladder(config, cuda) == changes


def test_every_step_of_the_ladder_is_a_config() -> None:
    config = GrpoTrain(optimizer=Optimizer(learning_rate=1e-3), lora=Lora()).model_dump(mode="json")
    for change in ladder(config, cuda=True):
        assert GrpoTrain.model_validate(config | change).model_dump(mode="json") == config | change
