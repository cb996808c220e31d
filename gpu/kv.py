"""Keys and values of the rows being decoded, and of prompts that may come again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache


class Arena(Cache):
    """One tensor of keys and values, [2 * layers, rows, heads, width, head size], written in place.

    Row ``i`` holds its first ``length`` columns; what lies behind is stale but finite and is masked out. So
    rows of any length decode together without left padding, and join and leave without moving the others.
    The rows and columns of the next forward pass are set by ``aim``. An arena may be handed from one version
    to another of the same shape: touching fresh memory costs as much as a batch of prompts.
    """

    def __init__(self, config: Any, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(layers=[])
        layers, heads, size = _shape(config)
        self.data = torch.zeros(2 * layers, 0, heads, 0, size, device=device, dtype=dtype)
        self.token_bytes = 2 * layers * heads * size * self.data.element_size()
        self._rows = slice(0, 0)
        self._at: tuple[Tensor, Tensor] = (torch.zeros(0), torch.zeros(0))
        self._width = 0

    def suits(self, config: Any, device: torch.device, dtype: torch.dtype) -> bool:
        """Whether it can hold the rows of such a model."""
        layers, heads, size = _shape(config)
        have = (self.data.shape[0], self.data.shape[2], self.data.shape[4], self.data.device, self.data.dtype)
        return have == (2 * layers, heads, size, device, dtype)

    def reserve(self, rows: int, width: int) -> None:
        """Make room for at least that many rows of that many tokens, keeping what is there."""
        have_rows, have_width = self.data.shape[1], self.data.shape[3]
        if rows <= have_rows and width <= have_width:
            return
        shape = list(self.data.shape)
        shape[1] = have_rows if rows <= have_rows else max(rows, 2 * have_rows)
        shape[3] = have_width if width <= have_width else -(-max(width, have_width * 3 // 2) // 32) * 32
        # Zeros, not empty memory: a masked NaN would still reach the weighted sum.
        grown = self.data.new_zeros(shape)
        grown[:, :have_rows, :, :have_width] = self.data
        self.data = grown

    def aim(self, first: int, columns: Tensor, width: int) -> None:
        """The next forward writes ``columns`` [B, S] of the rows from ``first`` on; all of them are below ``width``."""
        count = len(columns)
        self._rows = slice(first, first + count)
        self._at = (torch.arange(first, first + count, device=columns.device)[:, None], columns)
        self._width = width

    def mask(self) -> Tensor:
        """[B, 1, S, width], to be added to the scores: zero where a token of the next forward may look, else -inf.

        As numbers, because every layer would make them of truth values again.
        """
        columns = self._at[1]
        hidden = torch.arange(self._width, device=columns.device) > columns[:, :, None]
        return torch.zeros(hidden.shape, dtype=self.data.dtype, device=columns.device).masked_fill_(hidden, -torch.inf)[
            :, None
        ]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Store [B, heads, S, size] of one layer and return all that its rows hold, [B, heads, width, size]."""
        rows, columns = self._at
        keys, values = self.data[2 * layer_idx], self.data[2 * layer_idx + 1]
        keys[rows, :, columns] = key_states.transpose(1, 2)
        values[rows, :, columns] = value_states.transpose(1, 2)
        return keys[self._rows, :, : self._width], values[self._rows, :, : self._width]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Zero: positions are always given."""
        return 0

    def copy(self, row: int, length: int) -> Tensor:
        """Keys and values of a row's first ``length`` tokens, [2 * layers, heads, length, head size]."""
        return self.data[:, row, :, :length].clone()

    def restore(self, row: int, stored: Tensor) -> None:
        """Put stored keys and values at the start of ``row``."""
        self.data[:, row, :, : stored.shape[2]] = stored

    def move(self, source: Sequence[int], target: Sequence[int], width: int) -> None:
        """Copy the first ``width`` columns of rows ``source`` over rows ``target``."""
        if source:
            self.data[:, list(target), :, :width] = self.data[:, list(source), :, :width]


def _shape(config: Any) -> tuple[int, int, int]:
    """Layers, heads of keys and values, and their size."""
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(config.num_hidden_layers), int(config.num_key_value_heads), int(size)


class Prefixes:
    """Keys and values by the tokens they belong to; the least recently used go first.

    Episodes of one scenario share their first prompt and each turn continues the one before, so most of a
    rollout's prompt tokens have been computed already.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._bytes = 0
        self._stored: OrderedDict[tuple[int, ...], Tensor] = OrderedDict()

    def __contains__(self, ids: tuple[int, ...]) -> bool:
        return ids in self._stored

    def put(self, ids: tuple[int, ...], stored: Tensor) -> None:
        """Keep ``stored`` for ``ids``."""
        if ids in self._stored:
            self._stored.move_to_end(ids)
            return
        self._stored[ids] = stored
        self._bytes += stored.nbytes
        while self._bytes > self.max_bytes and self._stored:
            self._bytes -= self._stored.popitem(last=False)[1].nbytes

    def longest(self, ids: Sequence[int], ends: Sequence[int]) -> tuple[int, Tensor | None]:
        """The longest of the prefixes ``ids[:end]`` that is stored; (0, None) if none is."""
        for end in sorted(ends, reverse=True):
            key = tuple(ids[:end])
            found = self._stored.get(key)
            if found is not None:
                self._stored.move_to_end(key)
                return end, found
        return 0, None
