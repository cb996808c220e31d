"""The chunked head against full logits."""

import math

import pytest
import torch
from torch import Tensor, nn
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM

from gpu import head
from rl.errors import InvalidInput


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("rows", [3, 11, 1000])
def test_values_and_gradients_of_full_logits(rows: int, temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(8, 13)
    hidden = torch.randn(11, 8, generator=generator, requires_grad=True)
    targets = torch.randint(13, (11,), generator=generator)
    weights = torch.randn(11, generator=generator)
    seen = []

    def watched(states: Tensor) -> Tensor:
        seen.append(len(states))
        made: Tensor = layer(states)
        return made

    monkeypatch.setitem(head.CHUNK_BYTES, "cpu", 4 * 13 * rows)
    logp, entropy = head.log_probs(watched, hidden, targets, 13, temperature)
    ours = torch.autograd.grad((logp * weights).sum(), [hidden, *layer.parameters()])
    full = torch.log_softmax(layer(hidden) / temperature, -1)
    plain = full[torch.arange(11), targets]
    theirs = torch.autograd.grad((plain * weights).sum(), [hidden, *layer.parameters()])
    torch.testing.assert_close(logp, plain)
    torch.testing.assert_close(entropy, -(full.exp() * full).sum(-1))
    assert not entropy.requires_grad
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two)
    assert max(seen) <= rows
    assert sum(seen) == (11 if rows >= 11 else 22)


def test_hand_computed() -> None:
    logp, entropy = head.log_probs(lambda states: states, torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([1]), 2)
    assert logp.item() == pytest.approx(math.log(0.75))
    assert entropy.item() == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))


def test_no_rows() -> None:
    logp, entropy = head.log_probs(nn.Linear(4, 5), torch.empty(0, 4), torch.empty(0, dtype=torch.long), 5)
    assert logp.shape == entropy.shape == (0,)


def test_capped_logits_are_refused() -> None:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 8, "num_attention_heads": 1}
    plain = LlamaForCausalLM(LlamaConfig(vocab_size=11, **sizes))
    assert head.output_layer(plain) is plain.lm_head
    capped = Gemma2ForCausalLM(Gemma2Config(vocab_size=11, num_key_value_heads=1, head_dim=8, **sizes))
    with pytest.raises(InvalidInput, match="final_logit_softcapping"):
        head.output_layer(capped)
