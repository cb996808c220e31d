"""Layers that are computed again: the same gradients to the bit, and the number of layers that the plan says."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from gpu import checkpointing
from gpu.attention import inner
from gpu.bins import Layout, pack
from gpu.terms import score
from rl.errors import InvalidInput
from rl.records import Sequence

LAYERS = 4
WIDTHS: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 96,
    "use_cache": False,
}
SHARED = [7 * i % 90 + 1 for i in range(150)]


def sequence(episode: int) -> Sequence:
    """A common prefix, and some tokens of its own that were spoken."""
    own = [(5 * episode + 3 * i) % 90 + 1 for i in range(20 + 9 * episode)]
    mask = [0] * len(SHARED) + [1] * len(own)
    return Sequence(episode=episode, ids=SHARED + own, mask=mask, logprobs=[0.0] * len(mask))


GROUP = [sequence(episode) for episode in range(4)]


def model(lora: bool, kind: Callable[[Any], Any] = Qwen3ForCausalLM, config: Any = Qwen3Config) -> Any:
    torch.manual_seed(1)
    made = kind(config(**WIDTHS))
    if lora:
        made = get_peft_model(made, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", lora_dropout=0.0))
        for name, parameter in made.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
    return made.train()


def gradients(policy: Any, layout: Layout) -> tuple[float, dict[str, Tensor]]:
    """Of the log-probabilities of all that was spoken; and what they sum to."""
    policy.zero_grad(set_to_none=True)
    total = 0.0
    for trie in pack([GROUP], 10_000, layout):
        loss = score(policy, trie, layout).logp.sum()
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return total, {name: one.grad.clone() for name, one in policy.named_parameters() if one.grad is not None}


def same(ours: tuple[float, dict[str, Tensor]], theirs: tuple[float, dict[str, Tensor]]) -> bool:
    names = ours[1].keys() == theirs[1].keys()
    return ours[0] == theirs[0] and names and all(torch.equal(one, theirs[1][name]) for name, one in ours[1].items())


@pytest.mark.parametrize("lora", [True, False], ids=["adapter", "weights"])
@pytest.mark.parametrize("layout", ["tree", "packed", "padded"])
def test_gradients_are_the_same_to_the_bit(lora: bool, layout: Layout) -> None:
    policy = model(lora)
    expected = gradients(policy, layout)
    assert expected[1]
    for count in (1, 3, LAYERS, 0):
        checkpointing.apply(policy, count)
        assert checkpointing.checkpointed(policy) == count
        assert same(gradients(policy, layout), expected)


@pytest.mark.parametrize("count", [0, 1, 3, LAYERS])
def test_the_first_layers_are_computed_twice(count: int) -> None:
    policy = model(lora=True)
    checkpointing.apply(policy, count)
    computed = [0] * LAYERS

    def counting(place: int) -> Callable[..., None]:
        def once_more(*_: object) -> None:
            computed[place] += 1

        return once_more

    for place, layer in enumerate(checkpointing.layers_of(policy)):
        attention: Any = layer.self_attn
        attention.register_forward_hook(counting(place))
    gradients(policy, "tree")
    assert computed == [2] * count + [1] * (LAYERS - count)


def test_nothing_is_computed_again_without_a_backward_pass() -> None:
    """A reference pass runs in train mode with the adapter off, a version that answers in eval mode."""
    policy = model(lora=True)
    (trie,) = pack([GROUP], 10_000, "tree")
    with torch.no_grad(), policy.disable_adapter():
        expected = score(policy, trie, "tree").logp
        checkpointing.apply(policy, LAYERS)
        assert torch.equal(score(policy, trie, "tree").logp, expected)


def test_frozen_embeddings_get_no_gradient() -> None:
    policy = model(lora=True)
    checkpointing.apply(policy, LAYERS)
    embedded = inner(policy).get_input_embeddings()(torch.tensor([[1, 2]]))
    assert not embedded.requires_grad


def test_a_version_over_the_same_tensors_is_left_alone() -> None:
    policy = model(lora=False)
    tensors = {id(one): one for one in [*policy.parameters(), *policy.buffers()]}
    other = copy.deepcopy(policy, tensors)
    checkpointing.apply(policy, 2)
    assert checkpointing.checkpointed(other) == 0


def test_another_kind_of_model() -> None:
    policy = model(True, LlamaForCausalLM, LlamaConfig)
    expected = gradients(policy, "tree")
    checkpointing.apply(policy, 2)
    assert checkpointing.checkpointed(policy) == 2
    assert same(gradients(policy, "tree"), expected)


def test_more_layers_than_there_are_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"config\.checkpointing = 5: the model has 4 layers that can be checkpoin"):
        checkpointing.apply(model(lora=False), LAYERS + 1)


def test_a_kind_of_model_that_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = model(lora=True)
    monkeypatch.setattr(Qwen3ForCausalLM, "supports_gradient_checkpointing", False)
    assert checkpointing.layers_of(policy) == []
    checkpointing.apply(policy, 0)
    with pytest.raises(InvalidInput, match="the model has 0 layers"):
        checkpointing.apply(policy, 1)
