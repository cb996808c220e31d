"""A model of Llama's shape, written out for decoding on a CPU.

With a small model most of a step is spent between the operations, in modules and their arguments, and PyTorch's CPU
kernel for attention is made for many queries. Here a pass is the operations alone, and one that only fills the arena
leaves out what no key and no value depends on. It reads the model's own modules, and calls an adapter's layers as they
are. All other models go the ordinary way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad, rms_norm, scaled_dot_product_attention
from transformers import LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM

from gpu.attention import inner
from gpu.kv import Arena

OWN_PRODUCT = 150
"""Measured with the starter model on one core, where 100 to 350 differ by a few per cent."""
SHAPES = (LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM)


def suits(model: Any) -> bool:
    """Whether ``model`` can be computed here: 32-bit weights on a CPU, all layers attending to everything."""
    plain = inner(model)
    kinds = set(getattr(plain.config, "layer_types", None) or ())
    is_plain = plain.device.type == "cpu" and plain.dtype == torch.float32
    return is_plain and type(plain) in SHAPES and kinds <= {"full_attention"}


def logits_after(model: Any, arena: Arena, ids: Tensor, columns: Tensor) -> Tensor:
    """Logits [B, V] after the last of ``ids`` [B, S], which become the ``columns`` that the arena was aimed at."""
    plain = inner(model)
    states, here = _begin(plain.model, arena, ids, columns)
    for at, layer in enumerate(plain.model.layers):
        states = _through(layer, at, states, here)
    return _apply(plain.lm_head, _normed(states.view(*ids.shape, -1)[:, -1], plain.model.norm))


def fill(model: Any, arena: Arena, ids: Tensor, columns: Tensor) -> None:
    """Keys and values of ``ids`` [B, S] alone: of the last layer nothing else is computed."""
    body = inner(model).model
    states, here = _begin(body, arena, ids, columns)
    last = len(body.layers) - 1
    for at, layer in enumerate(body.layers[:last]):
        states = _through(layer, at, states, here)
    _store(body.layers[last].self_attn, last, _normed(states, body.layers[last].input_layernorm), here)


@dataclass(frozen=True)
class Reach:
    """How far the rows of a step see: all to ``common``, and each of ``longer``, (row, end), to an end of its own.

    One product for all rows reads as many columns of each as the longest has, and reading them is what a step costs.
    """

    common: int
    longer: list[tuple[int, int]]


def reach(ends: Sequence[int]) -> Reach:
    """The split that reads least, where a row's own product costs as much as ``OWN_PRODUCT`` columns."""
    ordered = sorted(ends)
    beyond, best, common = 0, len(ends) * ordered[-1], ordered[-1]
    for left in range(len(ends) - 1, 0, -1):
        beyond += ordered[left] + OWN_PRODUCT
        cost = len(ends) * ordered[left - 1] + beyond - (len(ends) - left) * ordered[left - 1]
        if cost < best:
            best, common = cost, ordered[left - 1]
    return Reach(common, [(row, end) for row, end in enumerate(ends) if end > common])


def one_token(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float, seen: Reach) -> Tensor:
    """Attention, [B, H, 1, D], of ``query`` [B, H, 1, D] to ``key`` and ``value`` [B, K, W, D].

    ``mask`` [B, 1, 1, W] is added to the scores. Heads that share keys are one product.
    """
    rows, _, _, size = query.shape
    groups, upto = query.reshape(rows, key.shape[1], -1, size) * scale, seen.common
    scores = torch.matmul(groups, key[:, :, :upto].transpose(2, 3)).add_(mask[..., :upto])
    if seen.longer:
        scores = pad(scores, (0, key.shape[2] - upto), value=-torch.inf)
    for row, end in seen.longer:
        torch.matmul(groups[row], key[row, :, upto:end].transpose(1, 2), out=scores[row, :, :, upto:end])
    weights = torch.softmax(scores, dim=-1)
    heard = torch.matmul(weights[..., :upto], value[:, :, :upto])
    for row, end in seen.longer:
        heard[row] += torch.matmul(weights[row, :, :, upto:end], value[row, :, upto:end])
    return heard.view(query.shape)


@dataclass(frozen=True)
class _Pass:
    """What all layers of a pass share: where keys and values go, who sees them, and the positions [B, 1, S, D].

    ``shape`` is (B, S); states are [B * S, hidden], because two dimensions are what a product takes as it is.
    """

    arena: Arena
    mask: Tensor
    shape: torch.Size
    seen: Reach
    cos: Tensor
    sin: Tensor


def _begin(body: Any, arena: Arena, ids: Tensor, columns: Tensor) -> tuple[Tensor, _Pass]:
    states = body.embed_tokens(ids.flatten())
    cos, sin = body.rotary_emb(states, columns)
    seen = reach([column + 1 for column in columns[:, -1].tolist()])
    return states, _Pass(arena, arena.mask(), ids.shape, seen, cos[:, None], sin[:, None])


def _through(layer: Any, at: int, states: Tensor, here: _Pass) -> Tensor:
    states = states + _attended(layer.self_attn, at, _normed(states, layer.input_layernorm), here)
    mlp, read = layer.mlp, _normed(states, layer.post_attention_layernorm)
    return states + _apply(mlp.down_proj, mlp.act_fn(_apply(mlp.gate_proj, read)) * _apply(mlp.up_proj, read))


def _attended(attention: Any, at: int, states: Tensor, here: _Pass) -> Tensor:
    query = _turned(_heads(attention, attention.q_proj, "q_norm", states, here), here)
    keys, values = _store(attention, at, states, here)
    if query.shape[2] == 1:
        heard = one_token(query, keys, values, here.mask, attention.scaling, here.seen)
    else:
        shares = query.shape[1] != keys.shape[1]
        heard = scaled_dot_product_attention(
            query, keys, values, attn_mask=here.mask, scale=attention.scaling, enable_gqa=shares
        )
    return _apply(attention.o_proj, heard.transpose(1, 2).reshape(len(states), -1))


def _store(attention: Any, at: int, states: Tensor, here: _Pass) -> tuple[Tensor, Tensor]:
    """All keys and values of the layer, with those of ``states`` among them."""
    key = _turned(_heads(attention, attention.k_proj, "k_norm", states, here), here)
    return here.arena.update(key, _heads(attention, attention.v_proj, "", states, here), at)


def _heads(attention: Any, projection: nn.Module, norm: str, states: Tensor, here: _Pass) -> Tensor:
    """[B, heads, S, D], normalised where the model has a ``norm`` of that name."""
    heads = _apply(projection, states).view(*here.shape, -1, attention.head_dim)
    if hasattr(attention, norm):
        heads = _normed(heads, getattr(attention, norm))
    return heads.transpose(1, 2)


def _turned(states: Tensor, here: _Pass) -> Tensor:
    """Rotary positions, with transformers' order: the second half of a head belongs to the first."""
    half = states.shape[-1] // 2
    return states * here.cos + torch.cat((-states[..., half:], states[..., :half]), dim=-1) * here.sin


def _normed(states: Tensor, norm: Any) -> Tensor:
    return rms_norm(states, (states.shape[-1],), norm.weight, norm.variance_epsilon)


def _apply(layer: nn.Module, states: Tensor) -> Tensor:
    """The layer's output; what is no plain linear layer, an adapter's for instance, is called."""
    if type(layer) is nn.Linear:
        return linear(states, layer.weight, layer.bias)
    output: Tensor = layer(states)
    return output
