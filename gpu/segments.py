"""Exact attention over a token trie on a CPU, in calls of PyTorch's flash kernel on slices.

Every token attends causally within its own segment, and all tokens below a segment attend to all of it. Below it is one
slice of the depth-first order, so a segment costs one call of each kind, whatever the number of siblings, with no
copies of keys and values and no mask; a long one is halved first. What a token gets from the segments of its path is
joined by the logarithms of their softmax sums; the same kernel's backward pass, given the joined output and sum, yields
each call's exact share of the gradients (as in ring attention, arXiv 2310.01889). Small subtrees are one call with a
mask instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gpu.tries import Trie

DENSE = 128
"""Subtrees of at most this many tokens are one masked call; on one core a call costs as much as it saves there."""
LONGEST_CAUSAL = 192
"""A causal call of more tokens is two of half as many and one between them: what the kernel computes at the diagonal
and throws away again grows with its size."""


@dataclass(frozen=True)
class Block:
    """One call: the tokens of ``query`` attend to those of ``key``, all of them or as ``causal`` or ``mask`` say.

    ``mask`` [1, 1, n, n] is 0 where a token may look and minus infinity elsewhere.
    """

    query: slice
    key: slice
    causal: bool = False
    mask: Tensor | None = None


@dataclass(frozen=True)
class Blocks:
    """The calls of one trie: ``own`` hold every token once as query and once as key, ``above`` the rest."""

    own: list[Block]
    above: list[Block]


def plan(trie: Trie, dense: int = DENSE) -> Blocks:
    """The calls that attention over ``trie`` takes, the same in every layer."""
    blocks = Blocks([], [])
    limits = torch.from_numpy(trie.segment_last)
    index = 0
    while index < len(trie.start):
        start, end, last = int(trie.start[index]), int(trie.end[index]), int(trie.last[index])
        if last - start > dense:
            _causal(blocks, start, end)
            if last > end:
                blocks.above.append(Block(slice(end, last), slice(start, end)))
            index += 1
            continue
        index, stop = _siblings(trie, index, dense)
        blocks.own.append(_dense(start, stop, limits))
    return blocks


def _causal(blocks: Blocks, start: int, end: int) -> None:
    """Add the calls of a segment's own tokens."""
    if end - start <= LONGEST_CAUSAL:
        blocks.own.append(Block(slice(start, end), slice(start, end), causal=True))
        return
    middle = (start + end) // 2
    _causal(blocks, start, middle)
    _causal(blocks, middle, end)
    blocks.above.append(Block(slice(middle, end), slice(start, middle)))


def _siblings(trie: Trie, first: int, dense: int) -> tuple[int, int]:
    """The small subtrees from segment ``first`` on that fit one call: the segment and the token behind them."""
    start, stop, index = int(trie.start[first]), int(trie.start[first]), first
    while index < len(trie.start) and trie.above[index] == trie.above[first] and trie.last[index] - start <= dense:
        stop = int(trie.last[index])
        while index < len(trie.start) and trie.start[index] < stop:
            index += 1
    return index, stop


def _dense(start: int, stop: int, limits: Tensor) -> Block:
    tokens = torch.arange(start, stop)
    limit = limits[start:stop]
    where = slice(start, stop)
    if bool((limit == stop).all()):
        return Block(where, where, causal=True)
    sees = (tokens <= tokens[:, None]) & (tokens[:, None] < limit)
    return Block(where, where, mask=torch.zeros(sees.shape).masked_fill_(~sees, float("-inf"))[None, None])


def attend(query: Tensor, key: Tensor, value: Tensor, blocks: Blocks, scale: float) -> Tensor:
    """Attention of one trie: ``query`` [1, H, T, D], ``key`` and ``value`` [1, K, T, D] to [1, T, H, D]."""
    out: Tensor = _Attention.apply(query, key, value, blocks, scale)  # type: ignore[no-untyped-call]
    return out


class _Attention(torch.autograd.Function):
    """Queries that share a head of keys are a batch: [H / K, K, T, D], and keys are expanded over it, not copied."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, blocks: Blocks, scale: float) -> Tensor:
        heads, tokens, size = query.shape[1:]
        kv_heads = key.shape[1]
        out = torch.empty(tokens, heads, size, dtype=torch.float32)
        joined = _grouped(out.transpose(0, 1), kv_heads)
        sums = torch.empty(heads // kv_heads, kv_heads, tokens, dtype=torch.float32)
        q, k, v = _grouped(query[0], kv_heads), _expanded(key, heads), _expanded(value, heads)
        for block in blocks.own:
            part, part_sum = _call(q, k, v, block, scale)
            joined[:, :, block.query] = part
            sums[:, :, block.query] = part_sum
        for block in blocks.above:
            part, part_sum = _call(q, k, v, block, scale)
            here = sums[:, :, block.query]
            joined[:, :, block.query].lerp_(part.float(), torch.sigmoid(part_sum - here)[..., None])
            torch.logaddexp(here, part_sum, out=here)
        result = out.to(query.dtype)
        ctx.save_for_backward(query, key, value, result, sums)
        ctx.blocks, ctx.scale = blocks, scale
        return result[None]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query, key, value, result, sums = ctx.saved_tensors
        heads, kv_heads = query.shape[1], key.shape[1]
        grad_out, out = _grouped(grad[0].transpose(0, 1), kv_heads), _grouped(result.transpose(0, 1), kv_heads)
        q, k, v = _grouped(query[0], kv_heads), _expanded(key, heads), _expanded(value, heads)
        grads = [
            torch.empty(one.shape[2], one.shape[1], one.shape[3], dtype=torch.float32) for one in (query, key, value)
        ]
        grad_q, grad_k, grad_v = _grouped(grads[0].transpose(0, 1), kv_heads), grads[1], grads[2]
        for is_first, block in [(True, one) for one in ctx.blocks.own] + [(False, one) for one in ctx.blocks.above]:
            rows, columns = block.query, block.key
            part_q, part_k, part_v = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                grad_out[:, :, rows],
                q[:, :, rows],
                k[:, :, columns],
                v[:, :, columns],
                out[:, :, rows],
                sums[:, :, rows],
                0.0,
                block.causal,
                attn_mask=block.mask,
                scale=ctx.scale,
            )
            _put(grad_q[:, :, rows], part_q, is_first)
            _put(grad_k[columns].transpose(0, 1), part_k.sum(0), is_first)
            _put(grad_v[columns].transpose(0, 1), part_v.sum(0), is_first)
        back = [one.transpose(0, 1)[None].to(query.dtype) for one in grads]
        return back[0], back[1], back[2], None, None


def _call(q: Tensor, k: Tensor, v: Tensor, block: Block, scale: float) -> tuple[Tensor, Tensor]:
    """Output [G, K, n, D] and logarithm of the softmax sum [G, K, n] of one block."""
    part, part_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q[:, :, block.query],
        k[:, :, block.key],
        v[:, :, block.key],
        0.0,
        block.causal,
        attn_mask=block.mask,
        scale=scale,
    )
    return part, part_sum


def _grouped(heads_first: Tensor, kv_heads: int) -> Tensor:
    """[H, T, D] as a view [H / K, K, T, D]: queries of one head of keys lie side by side."""
    heads, tokens, size = heads_first.shape
    return heads_first.view(kv_heads, heads // kv_heads, tokens, size).transpose(0, 1)


def _expanded(states: Tensor, heads: int) -> Tensor:
    """[1, K, T, D] as a view [H / K, K, T, D]."""
    return states.expand(heads // states.shape[1], -1, -1, -1)


def _put(target: Tensor, part: Tensor, is_first: bool) -> None:
    if is_first:
        target.copy_(part)
    else:
        target.add_(part)
