"""A Qwen3 with random weights under a LoRA adapter that already changes what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from rl.memory import Architecture

RANK = 16
B_STD = 0.02
"""B of a new adapter is zero, and then half of its gradients are; these are drawn instead."""


@dataclass(frozen=True)
class Sizes:
    """A Qwen3. The head's share of the parameters that a token meets is about that of Qwen3-14B, a twentieth."""

    layers: int = 6
    hidden: int = 256
    feed_forward: int = 768
    heads: int = 4
    kv_heads: int = 2
    head_size: int = 64
    vocabulary: int = 1024

    @property
    def architecture(self) -> Architecture:
        """The widths that formulas of memory and arithmetic need."""
        query, key = self.heads * self.head_size, self.kv_heads * self.head_size
        return Architecture(self.layers, self.hidden, self.feed_forward, query, key, self.vocabulary)

    def __str__(self) -> str:
        return f"{self.layers} layers, hidden {self.hidden}, vocabulary {self.vocabulary}"


ON_GPU = Sizes(layers=8, hidden=2048, feed_forward=6144, heads=16, kv_heads=8, head_size=128, vocabulary=8192)
"""Large enough that a GPU computes rather than launches."""
QWEN3_14B = Sizes(40, 5120, 17408, 40, 8, 128, 151936)
TINY = Sizes(2, 32, 64, 4, 2, 8, 96)


def build(sizes: Sizes, seed: int, device: torch.device, dtype: torch.dtype = torch.float32) -> Any:
    """The peft model in train mode, made on ``device``; only the adapter is trained, in 32 bits."""
    config = Qwen3Config(
        num_hidden_layers=sizes.layers,
        hidden_size=sizes.hidden,
        intermediate_size=sizes.feed_forward,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.kv_heads,
        head_dim=sizes.head_size,
        vocab_size=sizes.vocabulary,
        max_position_embeddings=8192,
        tie_word_embeddings=False,
        use_cache=False,
    )
    lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", lora_dropout=0.0, task_type="CAUSAL_LM")
    before = torch.get_default_dtype()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            torch.set_default_dtype(dtype)
            with device:
                base = Qwen3ForCausalLM(config)
        finally:
            torch.set_default_dtype(before)
        model: Any = get_peft_model(base, lora)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=B_STD)
    return model.train()


def gradient(model: Any) -> Tensor:
    """What the adapter's parameters have gathered, as one vector in 64 bits, and forget it."""
    found = [one.grad.flatten().double() for one in model.parameters() if one.grad is not None]
    model.zero_grad(set_to_none=True)
    return torch.cat(found)


def distance(ours: Tensor, theirs: Tensor) -> float:
    """The relative L2 distance of two gradients."""
    return float((ours - theirs).norm() / theirs.norm())
