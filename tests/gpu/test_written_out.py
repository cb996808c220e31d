"""Passes written out, against transformers' own forward pass."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch.nn.functional import scaled_dot_product_attention
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from gpu.kv import Arena
from gpu.written_out import OWN_PRODUCT, Reach, fill, logits_after, one_token, reach, suits

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
}
MODELS = [
    (Qwen3ForCausalLM, Qwen3Config(**SIZES, head_dim=16)),
    (Qwen3ForCausalLM, Qwen3Config(**SIZES, head_dim=8, attention_bias=True, tie_word_embeddings=True)),
    (Qwen2ForCausalLM, Qwen2Config(**SIZES)),
    (LlamaForCausalLM, LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True, rms_norm_eps=1e-3)),
]


def random(kind: Any, config: Any) -> Any:
    torch.manual_seed(0)
    model = kind(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def check(model: Any) -> None:
    """Two rows of different lengths: their prompts, then one token each, then three."""
    assert suits(model)
    ids = torch.randint(0, 64, (2, 15), generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([11, 6])
    arena = Arena(model.config, model.device, model.dtype)
    arena.reserve(2, 15)
    with torch.inference_mode():
        columns = torch.arange(11).expand(2, 11)
        arena.aim(0, columns, 11)
        fill(model, arena, ids[:, :11], columns)
        for count in (1, 3):
            columns = lengths[:, None] + torch.arange(count)
            arena.aim(0, columns, int(columns.max()) + 1)
            got = logits_after(model, arena, ids.gather(1, columns), columns)
            lengths += count
            for row, length in enumerate(lengths):
                want = model(input_ids=ids[row : row + 1, :length]).logits[0, -1]
                torch.testing.assert_close(got[row], want, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("kind", "config"), MODELS)
def test_a_pass_is_that_of_transformers(kind: Any, config: Any) -> None:
    check(random(kind, config))


def test_an_adapter_is_part_of_the_pass() -> None:
    model = get_peft_model(random(*MODELS[0]), LoraConfig(r=4, target_modules="all-linear"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    check(model.eval())


def test_other_models_are_left_to_transformers() -> None:
    assert not suits(MistralForCausalLM(MistralConfig(**SIZES)))
    assert not suits(random(*MODELS[0]).bfloat16())
    sliding = Qwen3Config(**SIZES, head_dim=8, use_sliding_window=True, sliding_window=4, max_window_layers=1)
    assert "sliding_attention" in sliding.layer_types
    assert not suits(Qwen3ForCausalLM(sliding))


@pytest.mark.parametrize("common", [1, 5, 9])
@pytest.mark.parametrize("shared", [1, 2, 4])
def test_attention_is_scaled_dot_product_attention(shared: int, common: int) -> None:
    torch.manual_seed(1)
    query, key, value = torch.randn(3, 4, 1, 8), torch.randn(3, shared, 9, 8), torch.randn(3, shared, 9, 8)
    ends = [5, 9, 1]
    hidden = torch.arange(9) >= torch.tensor(ends)[:, None, None, None]
    mask = torch.zeros(hidden.shape).masked_fill_(hidden, -torch.inf)
    want = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.3, enable_gqa=True)
    seen = Reach(common, [(row, end) for row, end in enumerate(ends) if end > common])
    torch.testing.assert_close(one_token(query, key, value, mask, 0.3, seen), want, atol=1e-6, rtol=1e-5)


def test_few_long_rows_have_products_of_their_own() -> None:
    assert reach([100]) == Reach(100, [])
    assert reach([100, 101, 103]) == Reach(103, [])
    # All together 4 x 1000; apart 4 x 110 + (1000 + OWN_PRODUCT - 110).
    assert reach([100, 1000, 90, 110]) == Reach(110, [(1, 1000)])
    # A second one apart pays when 4 x (400 - 110) exceeds 400 + OWN_PRODUCT - 110.
    assert reach([100, 1000, 400, 110]) == Reach(110, [(1, 1000), (2, 400)])


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=12))
def test_no_other_split_reads_less(ends: list[int]) -> None:
    def cost(common: int) -> int:
        return len(ends) * common + sum(end - common + OWN_PRODUCT for end in ends if end > common)

    found = reach(ends)
    assert cost(found.common) == min(map(cost, ends))
    assert found.longer == [(row, end) for row, end in enumerate(ends) if end > found.common]
