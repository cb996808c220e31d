"""Attention over token tries inside any transformers model that takes its attention from the registry.

The registered implementation, ``tree``, is SDPA for ordinary calls, so that a model can keep it while it serves,
generates or is trained on padded batches. A call with ``token_tree`` attends along the trie instead: in slices on a
CPU, through FlexAttention on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask
from transformers import AttentionInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from gpu import flex, segments
from gpu.tries import Trie
from rl.errors import InvalidInput, PermanentError

NAME = "tree"

_sdpa: Any = ALL_ATTENTION_FUNCTIONS["sdpa"]


@dataclass
class TokenTree:
    """What one forward pass over a trie carries to its attention layers; ``arrivals`` counts those it reached."""

    layout: segments.Blocks | BlockMask
    arrivals: int = 0


def tree_of(trie: Trie, device: torch.device) -> TokenTree:
    """The trie in the form that attention on ``device`` needs.

    Raises:
        PermanentError: there is no kernel for the device.
    """
    if device.type == "cpu":
        return TokenTree(segments.plan(trie))
    if flex.available(device):
        return TokenTree(flex.block_mask(trie, device))
    raise PermanentError(f"attention over token tries on {device.type} needs CUDA and Triton; use padded batches")


def install(model: Any) -> None:
    """Let ``model`` take its attention from here. What it computes for ordinary calls does not change."""
    inner(model).set_attn_implementation(NAME)


def inner(model: Any) -> Any:
    """The transformers model inside a peft model; adapters are part of its layers."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


def tree_states(model: Any, trie: Trie) -> Tensor:
    """The body's last hidden states of all tokens of ``trie``, [T, H]; each attends along its own path.

    Raises:
        PermanentError: a layer attended without the trie, so the states would be wrong.
    """
    body, device = inner(model).base_model, model.device
    if body.config._attn_implementation != NAME:
        install(model)
    tree = tree_of(trie, device)
    states: Tensor = body(
        input_ids=torch.from_numpy(trie.ids).to(device)[None],
        position_ids=torch.from_numpy(trie.depth).to(device)[None],
        # Given a mask of four dimensions transformers makes none. Without one it would split at every new depth.
        attention_mask=torch.empty(1, 1, 0, 0, dtype=torch.bool, device=device),
        use_cache=False,
        token_tree=tree,
    ).last_hidden_state[0]
    layers = body.config.get_text_config().num_hidden_layers
    if tree.arrivals != layers:
        raise PermanentError(f"the token trie reached {tree.arrivals} of {layers} layers; use padded batches")
    return states


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    token_tree: TokenTree | None = None,
    **others: Any,
) -> tuple[Tensor, Tensor | None]:
    """The registered function: ``query`` [B, H, T, D], ``key`` and ``value`` [B, K, T, D] to [B, T, H, D].

    Raises:
        InvalidInput: the layer asks for something that attention over tries does not do.
        PermanentError: the trie was lost on the way.
    """
    if token_tree is None:
        if attention_mask is not None and attention_mask.numel() == 0:
            raise PermanentError(f"{type(module).__name__} does not pass keyword arguments on; use padded batches")
        plain: tuple[Tensor, Tensor | None] = _sdpa(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **others
        )
        return plain
    _refuse(dropout, others)
    token_tree.arrivals += 1
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if isinstance(token_tree.layout, BlockMask):
        return flex.attend(query, key, value, token_tree.layout, scale), None
    return segments.attend(query, key, value, token_tree.layout, scale), None


def _refuse(dropout: float, others: dict[str, Any]) -> None:
    if dropout:
        raise InvalidInput("attention_dropout", dropout, "use padded batches, or train without it")
    for name in ("sliding_window", "softcap", "s_aux", "position_bias"):
        if others.get(name) is not None:
            raise InvalidInput(name, others[name], "attention over tries does not know it; use padded batches")


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
