from __future__ import annotations

import pytest

from rl.config import GrpoTrain, Lora, Optimizer
from rl.errors import InvalidInput
from rl.memory import GIB, Architecture, architecture_of, gib, in_four_bits, kept, smaller

SMALL = Architecture(layers=2, hidden=10, feed_forward=30, query=8, key=4, vocabulary=100)
QWEN3_14B = Architecture(layers=40, hidden=5120, feed_forward=17408, query=5120, key=1024, vocabulary=151936)


def test_sizes_are_read_in_gibibytes() -> None:
    assert gib(int(1.25 * GIB)) == "1.2"


CONFIG: dict[str, object] = {
    "num_hidden_layers": 40,
    "hidden_size": 5120,
    "intermediate_size": 17408,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "tie_word_embeddings": False,
}


def test_the_widths_of_a_model_are_read_from_its_config() -> None:
    assert architecture_of(CONFIG) == QWEN3_14B
    assert architecture_of({"text_config": CONFIG, "vision_config": {}}) == QWEN3_14B
    plain = {name: value for name, value in CONFIG.items() if name not in ("num_key_value_heads", "head_dim")}
    assert architecture_of(plain | {"tie_word_embeddings": True}) == Architecture(
        layers=40, hidden=5120, feed_forward=17408, query=5120, key=5120, vocabulary=151936, tied=True
    )


@pytest.mark.parametrize("name", ["hidden_size", "intermediate_size", "vocab_size", "num_attention_heads"])
def test_a_config_without_a_width_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(InvalidInput, match=rf"{name} = None: the model's config\.json must name this width"):
        architecture_of({**CONFIG, name: None})


def test_a_mixture_of_experts_is_not_estimated() -> None:
    with pytest.raises(InvalidInput, match=r"num_experts = 128: memory of a mixture of experts"):
        architecture_of(CONFIG | {"num_experts": 128})


def test_one_layer_keeps_the_bytes_of_the_formula() -> None:
    # norms 4 (20 + 12) = 128, inputs 4 (28 + 30) = 232, inner 4 (90 + 16 + 8) = 456, scaled 4 (32) = 128
    assert kept(SMALL, 4, None) == 944
    # norms 128, inputs 2 (58) = 116, inner 2 (114) = 228, scaled 64
    assert kept(SMALL, 2, None) == 536
    # norms, inputs, inner, and what seven adapters of rank 3 keep between A and B, in float32
    assert kept(SMALL, 4, 3) == 128 + 232 + 456 + 84
    # inputs in float32, one copy for each adapter: 4 (50 + 8 + 30) = 352
    assert kept(SMALL, 2, 3) == 128 + 352 + 228 + 84


def test_parameters_of_a_small_decoder_are_counted() -> None:
    # q 80, k and v 40 each, o 80, gate, up and down 300 each
    assert SMALL.body == 2 * (80 + 40 + 40 + 80 + 900)
    assert SMALL.embeddings == 2000
    # per rank q 18, k and v 14 each, o 18, gate, up and down 40 each
    assert SMALL.adapter(3) == 2 * 3 * (18 + 14 + 14 + 18 + 120)


def test_fourteen_billion_parameters_in_bytes() -> None:
    assert QWEN3_14B.body == pytest.approx(13.21e9, rel=1e-3)
    assert 2 * QWEN3_14B.parameters == pytest.approx(29.5e9, rel=2e-3)
    # weights, gradients and two moments, each in float32
    assert 16 * QWEN3_14B.adapter(16) == pytest.approx(1.0e9, rel=0.03)
    assert 16 * QWEN3_14B.adapter(64) == pytest.approx(4.1e9, rel=0.01)
    assert in_four_bits(QWEN3_14B) == pytest.approx(9.9e9, rel=0.01)


def test_fourteen_billion_parameters_of_activations_in_bytes() -> None:
    """What linear layers and attention keep in bfloat16 is 7.8 MB a token; norms and adapters double it.

    Norms keep their input in float32, 65,536 bytes a token and layer, and each adapter a float32 copy of its own, where
    one bfloat16 copy would do for the linear layers: 192,512 bytes instead of 65,536.
    """
    bare = 387_072 - 65_536 - (192_512 - 65_536)
    assert 40 * bare == pytest.approx(7.8e6, rel=0.01)
    assert kept(QWEN3_14B, 2, 16) == 387_072 + 4 * 7 * 16
    assert 40 * kept(QWEN3_14B, 2, 16) == pytest.approx(15.5e6, rel=0.01)


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
        ({"token_budget": 3072, "lora": {"rank": 4}, "devices": 2}, True, HALVED),
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
