"""Exact attention over a token trie on a GPU, as one FlexAttention call. Needs CUDA and Triton.

Whatever this computes is compared with padded batches before it is used: see ``gpu.layouts.check``.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from gpu.tries import Trie

BLOCK = 128


def available(device: torch.device) -> bool:
    """Whether FlexAttention can be compiled for ``device``."""
    return device.type == "cuda" and find_spec("triton") is not None


def block_mask(trie: Trie, device: torch.device) -> BlockMask:
    """Where the tokens of ``trie`` may look, as blocks of 128 x 128, in memory that is linear in its tokens.

    With depth-first order a block of keys before the block of queries is seen at all if any of its subtrees reaches
    the first query, and by everyone if all of them reach past the last.
    """
    tokens, count = len(trie), -(-len(trie) // BLOCK)
    limits = trie.segment_last
    first = np.arange(count) * BLOCK
    highest, lowest = np.maximum.reduceat(limits, first), np.minimum.reduceat(limits, first)
    before = first[None] < first[:, None]
    full = before & (lowest[None] >= first[:, None] + BLOCK)
    partial = (before & (highest[None] > first[:, None]) & ~full) | np.eye(count, dtype=bool)
    limit = torch.from_numpy(limits).to(device)

    def sees(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query < limit[key])

    sparse = [_ordered(kind, device) for kind in (partial, full)]
    return BlockMask.from_kv_blocks(
        *sparse[0], *sparse[1], BLOCK_SIZE=BLOCK, mask_mod=sees, seq_lengths=(tokens, tokens)
    )


def attend(query: Tensor, key: Tensor, value: Tensor, mask: BlockMask, scale: float) -> Tensor:
    """Attention of one trie: ``query`` [1, H, T, D], ``key`` and ``value`` [1, K, T, D] to [1, T, H, D]."""
    grouped = query.shape[1] != key.shape[1]
    out: Tensor = _compiled()(query, key, value, block_mask=mask, scale=scale, enable_gqa=grouped)
    return out.transpose(1, 2).contiguous()


@cache
def _compiled() -> Any:
    """One kernel for tries of every length: compiling again for each would cost more than it saves."""
    return torch.compile(flex_attention, dynamic=True)


def _ordered(kind: npt.NDArray[np.bool_], device: torch.device) -> tuple[Tensor, Tensor]:
    """Counts [1, 1, n] and indices [1, 1, n, n] of the blocks of keys that each block of queries meets."""
    count = torch.from_numpy(kind.sum(1)).to(device, torch.int32)
    order = torch.from_numpy(np.argsort(~kind, axis=1, kind="stable")).to(device, torch.int32)
    return count[None, None], order[None, None]
